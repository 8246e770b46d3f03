# SPDX-License-Identifier: Apache-2.0
"""Token files: sound to arrays and back, levels, wrong weights, hostile archives."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import soundfile

import polycodec
from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.options import TokenOptions
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.codecs.files.tokens import convert as api_tokens
from polycodec.codecs.files.tokens import speech as speech_tokens
from polycodec.codecs.files.tokens.file import read_tokens, write_tokens
from polycodec.errors import (
    CodecError,
    DigestMismatchError,
    InputError,
    ModelError,
    UsageError,
    VersionError,
)

SECONDS = 2.3


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(api_speech, "CHUNK_SECONDS", 1)


@pytest.fixture
def codec(sound_codec):
    return sound_codec


@pytest.fixture
def talk(tmp_path):
    t = np.arange(round(SECONDS * 22050))[:, None] / 22050
    x = 0.5 * np.sin(2 * np.pi * np.array([3, 4]) * t)
    soundfile.write(tmp_path / "talk.wav", x, 22050, subtype="PCM_24")
    return tmp_path / "talk.wav"


def test_the_function_takes_and_gives_every_form(talk, tmp_path, codec):
    tokens = polycodec.tokens(talk, tmp_path / "t.npz", codec=codec)
    back = polycodec.tokens(tmp_path / "t.npz", tmp_path / "a.plc", codec=codec)
    polycodec.tokens(tokens, tmp_path / "b.wav", codec=codec)
    again = polycodec.tokens(tmp_path / "a.plc", io.BytesIO(), codec=codec)
    for other in (back, again):
        assert np.array_equal(other.codes, tokens.codes)
    assert soundfile.info(tmp_path / "b.wav").frames == tokens.samples


def test_what_was_taken_out_comes_back(tmp_path, codec, monkeypatch):
    monkeypatch.setattr(codec.signal, "condition", True)
    x = 0.2 + 0.05 * np.sin(np.arange(20000) / 9)
    soundfile.write(tmp_path / "talk.wav", x, 16000)
    tokens = polycodec.tokens(tmp_path / "talk.wav", tmp_path / "t.npz", codec=codec)
    assert tokens.condition
    polycodec.tokens(tmp_path / "t.npz", tmp_path / "b.wav", codec=codec)
    assert soundfile.read(tmp_path / "b.wav")[0].mean() == pytest.approx(0.2, abs=0.01)


def test_tokens_of_a_sound_are_those_of_its_file(talk, tmp_path, codec):
    api.encode(talk, tmp_path / "a.plc", quality=100, codec=codec)
    direct = api_tokens.tokens(talk, codec=codec)
    stored = api_tokens.tokens(tmp_path / "a.plc", codec=codec)
    assert direct.codes.shape == (1, 4, int(np.ceil(SECONDS * 400)))
    assert np.array_equal(direct.codes, stored.codes)
    assert (direct.digest, direct.rate, direct.samples) == (b"test".hex(), 22050, 50715)
    assert direct.frame_rate == 400 and direct.sample == "int24"


@pytest.mark.parametrize("channels", ["mix", "keep"])
def test_back_to_a_file_and_to_sound(talk, tmp_path, codec, channels):
    options = {"quality": 66.67, "channels": channels, "codec": codec}
    api.encode(talk, tmp_path / "a.plc", **options)
    api_tokens.convert(talk, tmp_path / "t.npz", **options)
    api_tokens.convert(tmp_path / "t.npz", tmp_path / "b.plc", codec=codec)
    assert (tmp_path / "a.plc").read_bytes() == (tmp_path / "b.plc").read_bytes()
    api.decode(tmp_path / "a.plc", tmp_path / "a.wav", codec=codec)
    result = api_tokens.convert(tmp_path / "t.npz", tmp_path / "b.wav", codec=codec)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert result.levels == 3 and result.channels == (2 if channels == "keep" else 1)


def test_chunks_of_several_rates(talk, tmp_path, codec):
    """Levels that a chunk has not are -1, and stay away on the way back."""
    tokens = api_tokens.tokens(talk, codec=codec)
    tokens.codes = tokens.codes.copy()
    tokens.codes[:, 2:, 400:800] = -1
    first = io.BytesIO()
    speech_tokens.write(tokens, first, codec)
    first.seek(0)
    again, _ = speech_tokens.read(Reader(first), TokenOptions(), codec)
    assert np.array_equal(again.codes, tokens.codes)
    tokens.codes[:, 2:, 100:200] = -1
    with pytest.raises(InputError, match="chunk at frame 0"):
        speech_tokens.write(tokens, io.BytesIO(), codec)


def test_plain_codes_are_written_but_not_read(talk, tmp_path, codec):
    api_tokens.convert(talk, tmp_path / "t.npy", codec=codec)
    codes = np.load(tmp_path / "t.npy", allow_pickle=False)
    assert np.array_equal(codes, api_tokens.tokens(talk, codec=codec).codes)
    with pytest.raises(InputError, match="whose weights"):
        api_tokens.convert(tmp_path / "t.npy", tmp_path / "b.wav", codec=codec)


def test_other_weights_are_refused_by_name(talk, tmp_path, codec, tiny_checkpoint):
    api_tokens.convert(talk, tmp_path / "t.npz", codec=codec)
    codec.digest = b"else"
    with pytest.raises(DigestMismatchError, match=b"test".hex()):
        api_tokens.convert(
            tmp_path / "t.npz",
            tmp_path / "b.wav",
            codec=codec,
            checkpoint=tiny_checkpoint,
        )
    assert not (tmp_path / "b.wav").exists()


def test_suffixes_and_kinds_are_named(talk, photo, tmp_path, codec):
    with pytest.raises(UsageError, match=r"\.npz or \.npy"):
        api_tokens.convert(talk, tmp_path / "t.wav", codec=codec)
    api_tokens.convert(talk, codec=codec)
    assert (tmp_path / "talk.npz").is_file()
    with pytest.raises(UsageError, match=r"sounds or images, or \.plc"):
        api_tokens.convert(tmp_path / "talk.npz", tmp_path / "t.npz", codec=codec)
    with pytest.raises(ModelError, match="codes speech; expected one of images"):
        api_tokens.convert(photo, codec=codec)
    with pytest.raises(ModelError, match="scalar latents"):
        api_tokens.convert(photo)


def test_what_is_asked_of_signals_is_not_asked_of_codes(talk, photo, tmp_path, codec):
    api_tokens.convert(talk, tmp_path / "t.npz", codec=codec)
    api.encode(talk, tmp_path / "t.plc", codec=codec)
    for name, output in (("t.npz", "b.wav"), ("t.plc", "b.npz")):
        for option in ({"model": "speech/other"}, {"quality": 10}):
            with pytest.raises(InputError, match=r"leave (--model|it) out"):
                args = tmp_path / name, tmp_path / output
                api_tokens.convert(*args, codec=codec, **option)
            assert not (tmp_path / output).exists()
    named = {"codec": codec, "model": codec.name}
    api_tokens.convert(tmp_path / "t.npz", tmp_path / "b.wav", **named)
    with pytest.raises(UsageError, match="channels is for speech"):
        api_tokens.convert(photo, codec=codec, channels="keep")
    with pytest.raises(UsageError, match="model is 'speech/other', and codec is"):
        api.encode(talk, tmp_path / "c.plc", codec=codec, model="speech/other")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04"])
def test_what_only_its_name_makes_tokens_is_damaged(tmp_path, codec, data):
    (tmp_path / "t.npz").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        api_tokens.convert(tmp_path / "t.npz", tmp_path / "b.wav", codec=codec)


def changed(data: bytes, **arrays) -> io.BytesIO:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        fields = {name: archive[name] for name in archive.files}
    file = io.BytesIO()
    fields = {k: v for k, v in {**fields, **arrays}.items() if v is not None}
    np.savez(file, allow_pickle=True, **fields)
    file.seek(0)
    return file


def test_hostile_archives(talk, codec):
    file = io.BytesIO()
    write_tokens(file, api_tokens.tokens(talk, codec=codec))
    data = file.getvalue()
    codes = read_tokens(io.BytesIO(data)).codes
    cases = {
        "no codes": {"codes": None},
        "a code .* in plane 0, expected -1 to ": {"codes": codes + 9},
        "frames": {"codes": codes[:, :, 1:]},
        "levels of": {"codes": codes.repeat(2, axis=1)},
        "missing codes": {"codes": np.where(np.arange(4)[:, None] == 1, -1, codes)},
        "type object": {"codes": np.array([codes, None], dtype=object)},
        "span": {"span": np.array(0)},
        "rate": {"rate": np.array(0)},
        "32 bits": {"sizes": np.array([1 << 40])},
        "digest of": {"digest": np.array(5)},
    }
    for message, arrays in cases.items():
        with pytest.raises(InputError, match=message):
            read_tokens(changed(data, **arrays))
    with pytest.raises(VersionError):
        read_tokens(changed(data, version=np.array(2)))
    with pytest.raises(InputError, match="damaged"):
        read_tokens(io.BytesIO(data[: len(data) // 2]))


def test_a_shape_is_not_believed(talk, codec):
    """An array that says it has 2^40 codes is refused before any memory is taken."""
    head = io.BytesIO()
    about = {"descr": "<i4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(head, about)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("codes.npy", head.getvalue())
    file.seek(0)
    with pytest.raises(InputError, match="damaged"):
        read_tokens(file)


def test_every_damaged_byte_is_named_or_harmless(talk, codec):
    file = io.BytesIO()
    tokens = api_tokens.tokens(talk, codec=codec)
    write_tokens(file, tokens)
    data, rng = file.getvalue(), np.random.default_rng(0)
    for at in rng.integers(0, len(data), 300):
        bad = bytearray(data)
        bad[at] ^= 1 << int(rng.integers(8))
        try:
            found = read_tokens(io.BytesIO(bytes(bad)))
        except CodecError:
            continue
        assert np.array_equal(found.codes, tokens.codes)


def test_command(cli, talk, codec, sound_weights):
    code, out, _ = cli("tokens", "talk.wav")
    assert code == 0 and "talk.wav -> talk.npz  1 x 4 x 920 tokens" in out
    code, out, _ = cli("tokens", "talk.npz", "-o", "back.wav", "--json")
    assert code == 0 and '"levels": 4' in out
    x, rate = soundfile.read("back.wav")
    assert rate == 22050 and len(x) == 50715
    assert cli("tokens", "absent.wav")[0] == 3


def test_command_for_a_folder(cli, talk, tmp_path, codec, sound_weights):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    data = talk.read_bytes()
    (tmp_path / "in" / "a.wav").write_bytes(data)
    (tmp_path / "in" / "deep" / "b.wav").write_bytes(data)
    (tmp_path / "in" / "c.txt").write_text("no sound")
    code, out, err = cli("tokens", "in", "-o", "out")
    assert code == 0 and "c.txt" in out + err
    made = {
        p.relative_to(tmp_path / "out").as_posix()
        for p in tmp_path.glob("out/**/*.npz")
    }
    assert made == {"a.npz", "deep/b.npz"}
    assert cli("tokens", "out", "-o", "back")[0] == 0  # no signals there: the way back
    made = sorted(p.name for p in (tmp_path / "back").glob("**/*.wav"))
    assert made == ["a.wav", "b.wav"]
    (tmp_path / "out" / "a.npz").rename(tmp_path / "in" / "b.npz")
    assert cli("tokens", "in", "-o", "again")[0] == 0
    assert not list((tmp_path / "again").glob("**/*.wav"))
    assert cli("tokens", "in/a.wav", "talk.wav")[0] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate", np.nan),
        ("version", np.nan),
        ("samples", np.inf),
        ("hop", 40.5),
        ("sizes", np.array(16, np.int32)),
        ("codes", np.zeros((1, 4, 0), np.int32)),
        ("condition", "no number"),
    ],
)
def test_fields_that_cannot_be_are_named(talk, tmp_path, codec, field, value):
    polycodec.tokens(talk, tmp_path / "t.npz", codec=codec)
    fields = {**np.load(tmp_path / "t.npz"), field: np.array(value)}
    np.savez(tmp_path / "bad.npz", **fields)
    with pytest.raises((InputError, VersionError)):
        polycodec.tokens(tmp_path / "bad.npz", tmp_path / "x.wav", codec=codec)
