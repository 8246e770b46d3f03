# SPDX-License-Identifier: Apache-2.0
"""Sound through `.plc` files: round trips, parts, rates, memory."""

from __future__ import annotations

import collections
import pathlib
import sys

import numpy as np
import pytest
import soundfile
from signals import hum

from polycodec.codecs.files import api
from polycodec.codecs.files.container import inspect
from polycodec.codecs.files.speech.rate import mean_quality, mix_levels, spread
from polycodec.errors import (
    InputError,
    ModelError,
    UsageError,
)

pytestmark = pytest.mark.usefixtures("short_chunks")


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
        codes = list(sound_codec.sound_codes(pieces, 400, 4))
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
    for option in ({"min_psnr": 30}, {"tile": 64}, {"psnr": True}):
        with pytest.raises(UsageError, match="is for images"):
            coded(hum(0.1), 16000, **option)
    for option in ({"target_kbps": 3}, {"channels": "keep"}):
        with pytest.raises(UsageError, match=r"is for .*speech"):
            api.encode(photo, tmp_path / "p.plc", **option)
    with pytest.raises(ModelError, match="codes speech; expected one of images"):
        api.encode(photo, tmp_path / "p.plc", codec=sound_codec)
    coded(hum(0.1), 16000)
    with pytest.raises(UsageError, match="is for images"):
        api.decode(tmp_path / "a.plc", region=(0, 0, 1, 1), codec=sound_codec)


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
