# SPDX-License-Identifier: Apache-2.0
"""Damaged, cut and hostile files of sound: named, or silent where they are damaged."""

from __future__ import annotations

import collections
import io
import random
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from signals import hum

from polycodec.codecs import zoo
from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import (
    Header,
    Reader,
    Record,
    SpeechGeometry,
    write_plc,
)
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.codecs.files.speech.chunks import pack_chunk, unpack_chunk
from polycodec.entropy_models.coders import RangeEncoder
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    CodecError,
    DeterminismError,
    TruncatedError,
)
from polycodec.registry import build

pytestmark = pytest.mark.usefixtures("short_chunks")


@pytest.fixture
def damaged(coded, tmp_path) -> tuple[np.ndarray, bytes]:
    """The decoded samples of a good file, and its bytes with chunk 2 of 5 flipped."""
    whole, _, _ = coded(hum(4.5), 16000)
    data = bytearray((tmp_path / "a.plc").read_bytes())
    reader = Reader(io.BytesIO(bytes(data)))
    at = reader.header_size + sum(reader.sizes[:2]) + 3
    data[at] ^= 4
    return whole, bytes(data)


def test_an_error_says_which_seconds_are_good(damaged, tmp_path, sound_codec):
    _, data = damaged
    (tmp_path / "bad.plc").write_bytes(data)
    with pytest.raises(ChecksumError, match=r"chunk 2 of 5") as caught:
        api.decode(tmp_path / "bad.plc", tmp_path / "x.wav", codec=sound_codec)
    assert "intact seconds: 0.0 to 2.0, 3.0 to 4.5" in str(caught.value)
    assert "--salvage" in str(caught.value) and not (tmp_path / "x.wav").exists()
    # What does not touch the damage is decoded as ever.
    api.decode(
        tmp_path / "bad.plc", tmp_path / "x.wav", codec=sound_codec, seconds=(3.1, 4)
    )


def test_salvage_keeps_the_good_seconds(damaged, tmp_path, sound_codec):
    whole, data = damaged
    (tmp_path / "bad.plc").write_bytes(data)
    result = api.decode(
        tmp_path / "bad.plc", tmp_path / "x.wav", codec=sound_codec, salvage=True
    )
    assert result.damaged == [(2.0, 3.0)] and "2.0 to 3.0" in result.notes[0]
    x, _ = soundfile.read(tmp_path / "x.wav", always_2d=True)
    assert not x[32000:48000].any()
    for part in (slice(0, 31900), slice(48100, None)):
        assert np.array_equal(x[part], whole[part])


def test_few_bytes_are_not_much_sound(sound_codec):
    """A stream of no bytes decodes to any number of tokens, and salvage to silence."""

    def decoded(seconds: int, chunks: list[bytes], channels: int = 1, **options):
        span = 16000 * seconds
        geometry = SpeechGeometry(16000, span * len(chunks), span, channels=channels)
        header = Header(
            model=sound_codec.name,
            digest=sound_codec.digest,
            kind="speech",
            geometry=geometry,
            quality=0.0,
        )
        file, out = io.BytesIO(), io.BytesIO()
        write_plc(file, header, chunks)
        file.seek(0)
        api.decode(file, out, codec=sound_codec, **options)

    with pytest.raises(BitstreamError, match="at most 64 seconds"):
        decoded(250, [b"\1" + bytes(4)])
    with pytest.raises(BitstreamError, match="expected at least"):
        decoded(60, [b"\1" + bytes(4)])
    with pytest.raises(BitstreamError, match="too"):
        decoded(30, [b""] * 3, channels=255, salvage=True)


def test_salvage_of_a_cut_file(damaged, tmp_path, sound_codec):
    whole, _ = damaged
    path = tmp_path / "a.plc"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(TruncatedError, match=r"intact seconds: 0\.0 to 4\.0"):
        api.decode(path, tmp_path / "x.wav", codec=sound_codec)
    result = api.decode(path, tmp_path / "x.wav", codec=sound_codec, salvage=True)
    assert result.damaged == [(4.0, 4.5)]
    x, _ = soundfile.read(tmp_path / "x.wav", always_2d=True)
    assert np.array_equal(x[:63900], whole[:63900]) and not x[64000:].any()
    reader = Reader(io.BytesIO(path.read_bytes()), tolerant=True)
    path.write_bytes(path.read_bytes()[: reader.header_size + 5])
    with pytest.raises(TruncatedError):  # nothing is left to salvage
        api.decode(path, tmp_path / "y.wav", codec=sound_codec, salvage=True)
    assert not (tmp_path / "y.wav").exists()


def test_hostile_files_are_named_errors(coded, tmp_path, sound_codec):
    coded(hum(1.2), 16000)
    good = (tmp_path / "a.plc").read_bytes()
    noise, counts = random.Random(0), collections.Counter()

    def decode(data: bytes, **options) -> bytes:
        out = io.BytesIO()
        api.decode(io.BytesIO(data), out, codec=sound_codec, **options)
        return out.getvalue()

    want = decode(good)
    for _ in range(150):
        bad = bytearray(good[: noise.choice([len(good), noise.randrange(len(good))])])
        if bad:
            bad[noise.randrange(len(bad))] ^= noise.choice([1, 16, 128, 255])
        for salvage in (False, True):
            try:
                same = decode(bytes(bad), salvage=salvage) == want
                counts["salvaged" if salvage else f"same {same}"] += 1
            except CodecError:
                counts["named"] += 1
    assert set(counts) <= {"named", "salvaged"}, counts


def with_chunk(tmp_path, chunk: bytes) -> io.BytesIO:
    """The file a.plc with another first chunk, under good checksums."""
    out = io.BytesIO()
    with api_speech.Writer() as writer:
        writer.add(chunk)
        writer.finish(out, Reader(io.BytesIO((tmp_path / "a.plc").read_bytes())).header)
    out.seek(0)
    return out


def test_streams_that_lie_inside_good_checksums(coded, tmp_path, sound_codec):
    """Chunks a hostile writer could make: too many levels, cut, none at all."""
    coded(hum(0.5), 16000)
    reader = Reader(io.BytesIO((tmp_path / "a.plc").read_bytes()))
    levels, streams = unpack_chunk(reader.chunk(0), 1)
    liars = {
        "9 levels": pack_chunk(9, streams),
        "0 levels": pack_chunk(0, streams),
        "decodes to something else": pack_chunk(levels, [streams[0][:-9]]),
        "ends too early": b"",
    }
    for word, chunk in liars.items():
        with pytest.raises(BitstreamError, match=word):
            api.decode(with_chunk(tmp_path, chunk), io.BytesIO(), codec=sound_codec)


def test_few_bytes_hold_few_frames():
    """A file of 44 bytes was 8 MB of sound: a short stream says nothing of its end."""
    codec = zoo.load("speech/default")
    hop = codec.stride
    span = 60 * 16000 // hop * hop
    geometry = SpeechGeometry(16000, span, span)
    for stream in (b"", bytes(4), bytes(20)):
        out = io.BytesIO()
        with api_speech.Writer() as writer:
            writer.add(pack_chunk(1, [stream]))
            digest, name = codec.digest, codec.name
            writer.finish(out, Header(name, digest, "speech", geometry))
        out.seek(0)
        with pytest.raises(BitstreamError, match=r"at least|cannot hold|is cut"):
            api.decode(out, io.BytesIO(), codec=codec)
    # What silence really takes is more than that.
    silence = torch.zeros(1, 1, 100 * hop)
    for quality in (0, 100):
        data = codec.compress(silence, quality)[0]
        level = codec.level_of(quality)
        assert 8 * len(data) > codec.least_bits(level, (100,)) > 0


def test_codes_beyond_the_codebook_are_damage(coded, tmp_path, sound_codec):
    """An entropy model may know more codes than there are vectors."""
    coded(hum(0.5), 16000)
    sound_codec.entropy = build("entropy/tokens-static", sizes=[20] * 4)
    sound_codec.entropy.update()
    codes, coder = torch.full((1, 3, 200), 19), RangeEncoder(1)
    sound_codec.entropy.code(coder, codes, tuple(codes.shape))
    file = with_chunk(tmp_path, pack_chunk(3, coder.finish()))
    with pytest.raises(BitstreamError, match=r"chunk 0 is damaged.*expected 0\.\.15"):
        api.decode(file, io.BytesIO(), codec=sound_codec)


def test_chunks_of_several_channels():
    streams = [b"a" * 300, b"", b"xyz"]
    assert unpack_chunk(pack_chunk(7, streams), 3) == (7, streams)
    with pytest.raises(BitstreamError):
        unpack_chunk(pack_chunk(7, streams)[:200], 3)


def rewritten(data: bytes, condition: bytes | None, **changes: object) -> bytes:
    """The file with other fields of its geometry; all checksums are right."""
    reader, out = Reader(io.BytesIO(data)), io.BytesIO()
    geometry = replace(reader.header.geometry, **changes)
    records = [] if condition is None else [Record("condition", condition)]
    header = replace(reader.header, geometry=geometry, records=records)
    write_plc(out, header, [reader.chunk(k) for k in range(reader.n_chunks)])
    return out.getvalue()


def wave_of(x: np.ndarray, rate: int = 16000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, x, rate, format="WAV", subtype="PCM_16")
    return out.getvalue()


def test_another_form_under_good_checksums_is_named(sound_codec, monkeypatch):
    monkeypatch.setattr(sound_codec.signal, "condition", True)
    data = api.encode(wave_of(hum(2.2) + 0.1), codec=sound_codec).data
    reader = Reader(io.BytesIO(data))
    own, samples = reader.header.record("condition"), reader.header.geometry.samples
    assert own and rewritten(data, own) == data
    assert api.decode(data, codec=sound_codec).data
    for changes in (
        {"samples": samples - 1},  # within its last frame
        {"sample": "int24"},
        {"rate": 8000, "samples": samples // 2, "coded_rate": 16000},
        {"source_channels": 2},
    ):
        for salvage in (False, True):
            with pytest.raises(DeterminismError):
                changed = rewritten(data, own, **changes)
                api.decode(changed, codec=sound_codec, salvage=salvage)
    for other in (None, bytes([own[0] ^ 1]) + own[1:]):
        with pytest.raises(DeterminismError):
            api.decode(rewritten(data, other), codec=sound_codec)


def test_files_whose_form_was_not_sealed_decode(sound_codec, monkeypatch):
    wave = wave_of(hum(2.2) + 0.1)
    today = api.encode(wave, codec=sound_codec).data
    monkeypatch.setattr(api_speech, "seal_of", lambda geometry, condition: b"")
    before = api.encode(wave, codec=sound_codec).data
    assert len(before) == len(today) and before != today
    files = [api.decode(data, codec=sound_codec).data for data in (before, today)]
    assert files[0] == files[1]
    # What is lost of them is still told from what is whole.
    reader = Reader(io.BytesIO(before))
    at = reader.header_size + sum(r["size"] for r in reader.directory) + reader.sizes[0]
    cut = before[: at + 9] + bytes([before[at + 9] ^ 4]) + before[at + 10 :]
    assert api.decode(cut, codec=sound_codec, salvage=True).damaged == [(1.0, 2.0)]
