# SPDX-License-Identifier: Apache-2.0
"""Sound through `.plc` files: round trips, parts, rates, damage, memory."""

from __future__ import annotations

import collections
import io
import pathlib
import random
import sys

import numpy as np
import pytest
import soundfile
import torch

from polycodec.codecs import zoo
from polycodec.codecs.files import api
from polycodec.codecs.files.container import inspect
from polycodec.codecs.files.container.file import (
    Header,
    Reader,
    SpeechGeometry,
    write_plc,
)
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.codecs.files.speech.chunks import pack_chunk, unpack_chunk
from polycodec.codecs.files.speech.rate import mean_quality, mix_levels, spread
from polycodec.entropy_models.coders import RangeEncoder
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    CodecError,
    InputError,
    ModelError,
    TruncatedError,
    UsageError,
)
from polycodec.registry import build


def hum(seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """A slow swell that 400 values a second can follow, (samples, channels)."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    pitch = 3 + np.arange(channels)
    return 0.6 * np.sin(2 * np.pi * pitch * t) * np.cos(0.2 * t)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Chunks of a second: files of several chunks stay small."""
    monkeypatch.setattr(api_speech, "CHUNK_SECONDS", 1)


@pytest.fixture
def coded(tmp_path, sound_codec):
    """A function: encode and decode; returns (samples, how encoding went, decoding)."""

    def run(x: np.ndarray, rate: int, subtype: str = "PCM_16", **options):
        soundfile.write(tmp_path / "in.wav", x, rate, subtype=subtype)
        name = tmp_path / "a.plc"
        encoded = api.encode(
            tmp_path / "in.wav", name, codec=sound_codec, force=True, **options
        )
        decoded = api.decode(name, tmp_path / "b.wav", codec=sound_codec, force=True)
        y, found = soundfile.read(tmp_path / "b.wav", always_2d=True)
        assert found == rate and len(y) == len(x)
        return y, encoded, decoded

    return run


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_round_trip(coded, tmp_path, rate, channels):
    x = hum(2.3, rate, channels)
    y, encoded, decoded = coded(x, rate, quality=100)
    assert y.shape == (len(x), 1)
    mixed = x.mean(1, keepdims=True)
    assert np.abs(y - mixed)[rate // 10 : -rate // 10].max() < 0.02
    mentions = " ".join(encoded.notes)
    assert ("mixed into one" in mentions) == (channels == 2)
    assert (f"{rate} Hz are coded at 16000 Hz" in mentions) == (rate != 16000)
    size = (tmp_path / "a.plc").stat().st_size
    assert encoded.bytes == size == decoded.bytes
    assert encoded.kbps == pytest.approx(8 * size / 1000 / (len(x) / rate))
    assert inspect.info(tmp_path / "a.plc")["kbps"] == pytest.approx(encoded.kbps)
    assert decoded.duration == pytest.approx(2.3, abs=1e-4)
    kept, encoded, _ = coded(x, rate, quality=100, channels="keep")
    assert kept.shape == x.shape and encoded.channels == channels
    assert np.abs(kept - x)[rate // 10 : -rate // 10].max() < 0.02


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]
)
def test_the_form_of_the_samples_is_restored(coded, tmp_path, subtype):
    coded(hum(0.2), 16000, subtype)
    assert soundfile.info(tmp_path / "b.wav").subtype == subtype


def test_three_samples_silence_and_clipping(coded):
    for rate in (16000, 44100):
        y, _, _ = coded(np.full((3, 1), 0.25), rate)
        assert np.abs(y).max() < 1
        y, _, _ = coded(np.zeros((rate, 1)), rate, quality=100)
        assert np.abs(y).max() < 1e-3
    y, encoded, _ = coded(hum(0.5) * 4, 16000, "FLOAT")
    assert np.abs(y).max() <= 1 and "beyond full scale" in encoded.notes[-1]


def test_tags_are_kept(tmp_path, sound_codec):
    source, back = tmp_path / "in.flac", tmp_path / "out.flac"
    with soundfile.SoundFile(source, "w", samplerate=16000, channels=1) as file:
        file.title, file.artist = "Ein Titel, schön", "N.N."
        file.write(hum(0.1))
    api.encode(source, tmp_path / "a.plc", codec=sound_codec)
    api.decode(tmp_path / "a.plc", back, codec=sound_codec)
    tags = soundfile.SoundFile(back).copy_metadata()
    assert tags["title"] == "Ein Titel, schön" and tags["artist"] == "N.N."


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("seconds", [(0.9, 2.13), (2.999, 3.0), (1.5, None), (0, 0.2)])
def test_a_part_is_that_part_of_the_whole(coded, tmp_path, sound_codec, rate, seconds):
    whole, _, _ = coded(hum(4.2, rate, 2), rate, channels="keep")
    target = tmp_path / "part.wav"
    decoded = api.decode(tmp_path / "a.plc", target, codec=sound_codec, seconds=seconds)
    part, _ = soundfile.read(target, always_2d=True)
    first = round(seconds[0] * rate)
    last = len(whole) if seconds[1] is None else round(seconds[1] * rate)
    assert np.array_equal(part, whole[first:last])
    if seconds == (0, 0.2):  # chunks that are not needed are not read
        assert decoded.bytes < (tmp_path / "a.plc").stat().st_size


@pytest.mark.parametrize("seconds", [(0, 4.3), (5, None), (-1, 2), (2, 2.0)])
def test_parts_outside_are_refused(coded, tmp_path, sound_codec, seconds):
    coded(hum(4.2), 16000)
    with pytest.raises(UsageError, match=r"inside 0:4\.200"):
        api.decode(
            tmp_path / "a.plc", tmp_path / "x.wav", codec=sound_codec, seconds=seconds
        )
    assert not (tmp_path / "x.wav").exists()


def test_codes_do_not_depend_on_the_pieces_that_are_read(sound_codec):
    x = hum(3.3).astype(np.float32)
    chunks = []
    for size in (320, 16000, len(x)):
        pieces = (x[a : a + size] for a in range(0, len(x), size))
        codes = list(api_speech.code_chunks(sound_codec, pieces, 400, 4))
        assert [c.shape[2] for c in codes] == [400, 400, 400, 120]
        chunks.append([c.numpy().tobytes() for c in codes])
    assert chunks[0] == chunks[1] == chunks[2]


# --- rates -------------------------------------------------------------------------


def test_targets_are_met_and_nearly_used(coded):
    x = hum(8) + np.random.default_rng(0).normal(0, 0.02, (8 * 16000, 1))
    sizes = [coded(x, 16000, quality=q)[1].bytes for q in (0, 100)]
    step = (sizes[1] - sizes[0]) / 3 / 8  # what one level costs in one chunk
    for part in (0.1, 0.7):
        limit = int(sizes[0] + part * (sizes[1] - sizes[0]))
        _, by_size, _ = coded(x, 16000, target_size=limit)
        assert limit - 2 * step < by_size.bytes <= limit
        kbps = 8 * limit / 1000 / 8
        assert coded(x, 16000, target_kbps=kbps)[1].bytes == by_size.bytes
        assert coded(x, 16000, target_bpp=1000 * kbps)[1].bytes == by_size.bytes
        assert 0 < by_size.quality < 100
    with pytest.raises(UsageError, match="lowest rate needs"):
        coded(x, 16000, target_size=100)
    assert coded(x, 16000, target_kbps=999)[1].quality == 100


def test_levels_are_spread_evenly():
    assert spread(2, 2, 6) == [2, 2, 3, 2, 2, 3]
    assert mean_quality([2, 3], 4) == 50
    known = collections.Counter()

    def size_of(k: int, levels: int) -> int:
        known[k, levels] += 1
        return 10 * levels

    options = {"chunks": 5, "levels": 8, "what": "x"}
    assert sum(mix_levels(size_of, sum, limit=275, **options)) == 27
    assert set(known.values()) == {1}  # no coding is made twice
    assert mix_levels(size_of, sum, limit=400, **options) == [8] * 5


def test_options_of_the_other_kind_are_refused(coded, photo, tmp_path, sound_codec):
    for option in ({"min_psnr": 30}, {"effort": 3}, {"tile": 64}, {"psnr": True}):
        with pytest.raises(UsageError, match="is for images"):
            coded(hum(0.1), 16000, **option)
    for option in ({"target_kbps": 3}, {"channels": "keep"}):
        with pytest.raises(UsageError, match="is for speech"):
            api.encode(photo, tmp_path / "p.plc", **option)
    with pytest.raises(ModelError, match="codes speech; the input is images"):
        api.encode(photo, tmp_path / "p.plc", codec=sound_codec)
    coded(hum(0.1), 16000)
    with pytest.raises(UsageError, match="is for images"):
        api.decode(tmp_path / "a.plc", region=(0, 0, 1, 1), codec=sound_codec)


# --- damage ------------------------------------------------------------------------


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


def test_input_errors_name_the_file(tmp_path, sound_codec):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"a\.wav"):
        api.encode(tmp_path / "a.wav", codec=sound_codec)
    assert not (tmp_path / "a.plc").exists()


MEMORY = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, soundfile, torch
from tiny_speech import tiny_speech_codec
from polycodec.codecs.files import api

torch.set_num_threads(1)
codec = tiny_speech_codec()
codec.signal.block = 2000  # few blocks: this is not about speed
second = 0.1 * np.sin(np.arange(16000) / 50)[:, None]

def peak(minutes):
    with soundfile.SoundFile("in.wav", "w", samplerate=16000, channels=1) as file:
        for _ in range(60 * minutes):
            file.write(second)
    api.encode("in.wav", "a.plc", codec=codec, force=True)
    api.decode("a.plc", "out.wav", codec=codec, force=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

first = peak(1)
grown = peak(6) - first
assert grown < 7, f"{grown:.0f} MiB more for six times the sound"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="maxrss has other units there")
def test_memory_does_not_grow_with_the_length(process):
    """Six minutes are 22 MiB of floats; what is kept are chunks and their index."""
    here = pathlib.Path(__file__).resolve().parents[1]
    done = process(here, python=("-c", MEMORY))
    assert done.returncode == 0, done.stderr.decode()
