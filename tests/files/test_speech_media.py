# SPDX-License-Identifier: Apache-2.0
"""Sound files: every format in and out, forms of samples, tags, bad input."""

from __future__ import annotations

import errno
import io
import pathlib
import struct

import numpy as np
import pytest

from polycodec.codecs.files.kinds import kind_of
from polycodec.codecs.files.speech import read as read_module
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.speech.write import SpeechWriter, plan_output
from polycodec.errors import InputError, UsageError

soundfile = pytest.importorskip("soundfile")


def wave(samples: int = 8000, channels: int = 1, rate: int = 16000) -> np.ndarray:
    """Tones of 200, 300 … Hz, (samples, channels) float32 up to 0.5."""
    t = np.arange(samples)[:, None] / rate
    tones = np.sin(2 * np.pi * (200 + 100 * np.arange(channels)) * t)
    return (0.5 * tones).astype(np.float32)


def read(source) -> tuple[np.ndarray, read_module.OpenedSpeech]:
    with open_speech(source) as sound:
        return np.concatenate(list(sound.blocks(1000))), sound


def write(path: pathlib.Path, x: np.ndarray, rate=16000, sample="int16", tags=None):
    plan = plan_output(path.suffix, rate=rate, channels=x.shape[1], sample=sample)
    with path.open("w+b") as file, SpeechWriter(file, plan, tags or {}) as writer:
        for first in range(0, len(x), 3000):
            writer.write(x[first : first + 3000])
    return plan, writer


FORMS = {
    "int8": 2**-7, "int16": 2**-15, "int24": 2**-23, "int32": 2**-24,
    "float32": 0, "float64": 0,
}  # fmt: skip


@pytest.mark.parametrize("sample", FORMS)
def test_wav_keeps_every_form_of_samples(tmp_path, sample):
    path = tmp_path / "a.wav"
    write(path, wave(channels=2), sample=sample)
    x, sound = read(path)
    assert sound.info.sample == sample and sound.info.channels == 2
    assert np.abs(x - wave(channels=2)).max() <= FORMS[sample] / 2
    write(tmp_path / "b.wav", x, sample=sample)
    assert (tmp_path / "b.wav").read_bytes() == path.read_bytes()


LOSSY = {".ogg": 16000, ".opus": 48000, ".mp3": 44100}


@pytest.mark.parametrize("suffix", [".flac", ".aiff", *LOSSY])
def test_other_formats(tmp_path, suffix):
    rate, path = LOSSY.get(suffix, 22050), tmp_path / f"a{suffix}"
    want = wave(rate, 2, rate)
    plan, _ = write(path, want, rate, tags={"title": "Ä song", "track": "3"})
    x, sound = read(path)
    assert (plan.notes, sound.info.rate) == ((), rate)
    assert x.shape == want.shape
    limit = 0.1 if suffix in LOSSY else 2**-16
    assert np.abs(x - want)[rate // 10 : -rate // 10].max() <= limit
    if suffix != ".aiff":
        assert sound.info.tags["title"] == "Ä song"
    assert kind_of(path) == "speech"


def test_what_a_format_cannot_hold(tmp_path):
    opus = plan_output(".opus", rate=44100, channels=1, sample="int16")
    assert opus.rate == 48000 and "44100" in opus.notes[0]
    flac = plan_output(".FLAC", rate=16000, channels=1, sample="float32")
    assert flac.sample == "int24" and "float32" in flac.notes[0]
    with pytest.raises(InputError, match="at most 2 channels"):
        plan_output(".mp3", rate=16000, channels=6, sample="int16")
    with pytest.raises(UsageError, match=r"\.wav"):
        plan_output(".xyz", rate=16000, channels=1, sample="int16")
    long = plan_output(".wav", rate=1, channels=1, sample="int16", samples=1 << 40)
    assert long.container == "RF64"
    _, writer = write(tmp_path / "a.wav", wave(9), tags={"mood": "calm"})
    assert "mood" in writer.notes[0]


def test_writing_into_a_pipe(tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pipe, path = Pipe(), tmp_path / "a.wav"
    plan, _ = write(path, wave())
    with SpeechWriter(pipe, plan, {}) as writer:
        writer.write(wave())
    assert pipe.getvalue() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("room", [20, 3000])
def test_a_full_disk_is_said_once(tmp_path, capfd, suffix, room):
    """libsndfile's callbacks would print a traceback each."""

    class Full(io.BytesIO):
        def write(self, data) -> int:
            if self.tell() + len(data) > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    noise = np.random.default_rng(0).normal(0, 0.1, (40000, 1)).astype(np.float32)
    plan = plan_output(suffix, rate=16000, channels=1, sample="int16")
    with (
        pytest.raises(InputError, match="No space left"),
        SpeechWriter(Full(), plan, {"title": "T"}) as writer,
    ):
        writer.write(noise)
    assert capfd.readouterr().err == ""


def test_beyond_full_scale(tmp_path):
    x = 3 * wave(100)
    write(tmp_path / "i.wav", x)
    assert np.abs(read(tmp_path / "i.wav")[0]).max() == 1  # limited, never wrapped
    write(tmp_path / "f.wav", x, sample="float32")
    got, sound = read(tmp_path / "f.wav")
    assert np.array_equal(got, x.clip(-1, 1)) and sound.clipped == (abs(x) > 1).sum()


# --- through PyAV ------------------------------------------------------------------


def video(path: pathlib.Path, *, with_sound: bool = True) -> None:
    """A film of half a second, with a tone of 44100 Hz stereo."""
    av = pytest.importorskip("av")
    with av.open(path, "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 32
        sound = None
        if with_sound:
            sound = container.add_stream("aac", rate=44100, layout="stereo")
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        if sound:
            data = np.ascontiguousarray(wave(22050, 2, 44100).T)
            for first in range(0, 22050, 1024):
                block = np.ascontiguousarray(data[:, first : first + 1024])
                frame = av.AudioFrame.from_ndarray(
                    block, format="fltp", layout="stereo"
                )
                frame.rate, frame.pts = 44100, first
                container.mux(sound.encode(frame))
            container.mux(sound.encode())


def test_the_sound_of_a_video(tmp_path):
    video(tmp_path / "film.mp4")
    x, sound = read(tmp_path / "film.mp4")
    assert (sound.info.rate, sound.info.channels, sound.info.sample) == (
        44100,
        2,
        "int16",
    )
    assert "images" in sound.info.notes[0]
    assert len(x) >= 22050 - 1
    for one, other in zip(x[:22050].T, wave(22050, 2, 44100).T, strict=True):
        # FFmpeg's AAC takes a while to settle, and rings where the film ends.
        assert np.corrcoef(one[9000:16000], other[9000:16000])[0, 1] > 0.9
    assert kind_of(tmp_path / "film.mp4") == "video"  # --as sound codes its sound
    video(tmp_path / "mute.mp4", with_sound=False)
    with pytest.raises(InputError, match="no audio"):
        read(tmp_path / "mute.mp4")


@pytest.mark.parametrize("sample", ["int8", "int16", "int24", "float32"])
def test_both_libraries_read_the_same(tmp_path, monkeypatch, sample):
    pytest.importorskip("av")
    write(tmp_path / "a.wav", wave(5000, 2), sample=sample, tags={"title": "T"})
    one, by_soundfile = read(tmp_path / "a.wav")
    real = read_module.library
    monkeypatch.setattr(
        read_module, "library", lambda n: None if n == "soundfile" else real(n)
    )
    two, by_av = read(tmp_path / "a.wav")
    assert np.array_equal(one, two)
    assert by_soundfile.info.sample == by_av.info.sample == sample
    assert by_av.info.tags["title"] == "T"


def test_without_libraries_the_error_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path / "a.wav", wave(9))
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(99))
    real = read_module.library
    for gone, file in ((("av",), "b.mp4"), (("soundfile", "av"), "a.wav")):
        monkeypatch.setattr(
            read_module, "library", lambda n, g=gone: None if n in g else real(n)
        )
        with pytest.raises(InputError, match="pip install"):
            read(tmp_path / file)


# --- bad input ---------------------------------------------------------------------


def bad_files(folder: pathlib.Path) -> dict[str, str]:
    """Names of bad files, and a word of the error each must get."""
    write(folder / "a.wav", wave())
    write(folder / "a.flac", wave())
    write(folder / "none.wav", wave(0))
    good, flac = (folder / "a.wav").read_bytes(), (folder / "a.flac").read_bytes()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is no sound." * 9)
    (folder / "cut.wav").write_bytes(good[: len(good) // 2])
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 2])
    (folder / "head.wav").write_bytes(good[:30])
    zero = bytearray(good)
    zero[24:28] = bytes(4)
    (folder / "zero.wav").write_bytes(zero)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        x = wave()
        x[4000] = value
        soundfile.write(folder / f"{name}.wav", x, 16000, subtype="FLOAT")
    return {
        "missing.wav": "No such file",
        "empty.wav": "empty",
        "text.wav": "damaged",
        "cut.wav": "cut",
        "cut.flac": "cut or damaged after second",
        "head.wav": "cut",
        "zero.wav": "rate is 0",
        "none.wav": "no samples",
        "nan.wav": "second 0.250",
        "inf.wav": "NaN or infinite",
    }


def test_bad_files_have_named_errors(tmp_path):
    for name, word in bad_files(tmp_path).items():
        with pytest.raises(InputError, match=word) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)


def test_a_wav_made_by_a_pipe_is_read_to_its_end(tmp_path):
    write(tmp_path / "a.wav", wave())
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = data[4:8] = struct.pack("<I", 0xFFFFFFFF)
    x, _ = read(io.BytesIO(bytes(data)))
    assert len(x) == 8000


def test_random_damage_never_escapes_unnamed(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in (".wav", ".flac", ".ogg"):
        write(tmp_path / f"a{suffix}", wave(2000))
        good = (tmp_path / f"a{suffix}").read_bytes()
        for _ in range(25):
            bad = bytearray(good[: rng.integers(1, len(good) + 1)])
            for at in rng.integers(0, len(bad), 3):
                bad[at] = rng.integers(256)
            try:
                x, _ = read(io.BytesIO(bytes(bad)))
                assert np.isfinite(x).all() and np.abs(x).max() <= 1
            except InputError:
                pass


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "speech"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"\xff\xfb\x90\0", "speech"),
        (b"\0\0\0\x20ftypavif", "image"),
        (b"\0\0\0\x20ftypM4A ", "speech"),
        (b"OggS", "speech"),
        (b"no idea", "image"),
        (b"", "image"),
    ],
)
def test_kinds_are_told_from_content(start, kind):
    stream = io.BytesIO(start)
    assert kind_of(stream) == kind and stream.tell() == 0
