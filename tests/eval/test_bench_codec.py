# SPDX-License-Identifier: Apache-2.0
"""The codecs' benchmark: real bytes, shares below 1, options refused by name."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest
import torch

from polycodec.codecs import zoo
from polycodec.codecs.signals.speech import SpeechSignal
from polycodec.cuda import StreamDecoder, StreamEncoder
from polycodec.entropy_models.priors.tables import gaussian_tables
from polycodec.errors import UsageError
from polycodec.eval.bench import clock as bench_clock
from polycodec.eval.bench import codec as bench_codec
from polycodec.eval.bench import signals as bench_signals
from polycodec.eval.bench import subjects as bench_subjects
from polycodec.eval.bench.table import codec_table


@pytest.fixture
def alone(monkeypatch):
    """As on a machine without CompressAI."""
    monkeypatch.setitem(sys.modules, "compressai", None)


def test_bench_of_a_run_from_the_command_line(cli, photo, tiny_checkpoint, alone):
    name = f"image/mine@{tiny_checkpoint}"
    options = ["--repeats", 1, "--threads", 1, "--device", "cpu", "--quality", 40]
    args = ["bench", "codec", "--codec", name, "--input", photo, *options]
    code, out, err = cli(*args, "--json")
    assert code == 0, err
    result = json.loads(out)
    (row,) = result["rows"]
    assert (row["codec"], row["width"], row["height"]) == (name, 80, 72)
    assert row["rounds"] >= 2  # the first is always news
    x = torch.from_numpy(bench_signals.read_image_file(photo))[None]
    codec = zoo.load("image/mine", checkpoint=tiny_checkpoint)
    (data,) = codec.compress(x, 40)
    assert row["bytes"] == len(data)
    assert row["bpp"] == pytest.approx(8 * len(data) / (80 * 72))
    for way in ("compress", "decompress"):
        assert 0 < row[way]["coder_share"] < 1
        rate = 80 * 72 / 1e6 / row[way]["seconds"]
        assert row[way]["megapixels_per_second"] == pytest.approx(rate)
    assert result["machine"]["threads"] == 1 and result["skipped"] == {}
    assert name in codec_table(result) and "80x72" in codec_table(result)


def test_bench_of_a_clip_is_refused(tmp_path):
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W16 H16 F25:1 C420mpeg2\n")
    with pytest.raises(UsageError, match=r"video are not timed.*image or speech"):
        bench_codec.bench(source=str(tmp_path / "a.y4m"))
    with pytest.raises(UsageError, match="video are not timed"):
        bench_codec.bench(["video/nerv-small"])


class Toy:
    """A codec for sound that takes its time: compresses to 125 bytes."""

    kind, digest, levels = "speech", b"toys", 4
    signal = SpeechSignal(rate=8000)

    def level_of(self, quality: float) -> int:
        return 3

    def compress(self, x, quality):
        assert quality == 50
        self.samples = x
        time.sleep(0.02)
        return [bytes(125)]

    def decompress(self, data):
        return self.samples


def test_sound_has_rates_and_real_time_factors(monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name, device, checkpoint: Toy())
    result = bench_codec.bench(["speech/toy"], device="cpu", repeats=1)
    (row,) = result["rows"]
    assert (row["rate"], row["duration"], row["kbps"]) == (8000, 10.0, 0.1)
    assert 0.002 <= row["compress"]["real_time_factor"] < 0.2
    assert row["compress"]["coder_share"] == 0
    # It sleeps: the clock goes on, the processor does nothing for it.
    assert 0 <= row["compress"]["processor_seconds"] < 0.02
    assert "CPU ms" in codec_table(result)
    assert "level 3 of 4" in codec_table(result)


def subject(name: str, watched: bool, decompress) -> bench_subjects.Timed:
    return bench_subjects.Timed(
        name, "image", "", 0, "", lambda x: x, decompress, lambda _: 1, watched
    )


def test_others_that_fail_are_left_out_by_name_and_ours_are_not(monkeypatch):
    def fail(data):
        raise RuntimeError("not on this machine")

    ours, theirs = subject("ours", True, lambda x: x), subject("theirs", False, fail)
    monkeypatch.setattr(bench_codec, "own", lambda *_: ours)
    monkeypatch.setattr(bench_codec, "peers", lambda *_: [theirs])
    result = bench_codec.bench(["ours"], device="cpu", repeats=1)
    assert [row["codec"] for row in result["rows"]] == ["ours"]
    assert result["skipped"] == {"theirs": "RuntimeError: not on this machine"}
    assert "not on this machine" in codec_table(result)
    monkeypatch.setattr(bench_codec, "own", lambda *_: subject("ours", True, fail))
    with pytest.raises(RuntimeError):
        bench_codec.bench(["ours"], device="cpu", repeats=1)


def test_a_slow_codec_stops_after_its_share():
    clock = bench_codec.Clock(torch.device("cpu"))
    waiting = subject("slow", True, lambda x: time.sleep(0.03))
    runner = bench_codec.Runner(waiting, torch.zeros(1, 3, 8, 8), clock)
    for _ in range(4):
        runner.turn(0.01)
    assert runner.rounds == 2


def test_rounds_end_when_nobody_has_news_or_time_is_over():
    news = iter([True, False, True, False, False, True])
    bench_clock.until_calm([lambda: next(news)], 2, 60)
    assert list(news) == [True]
    rounds = iter(range(9))
    bench_clock.until_calm([lambda: next(rounds) >= 0], 2, 0)
    assert next(rounds) == 1


def test_the_stopwatch_sees_the_coder_and_lets_go_of_it():
    tables, before = gaussian_tables(), StreamEncoder.put
    symbols, indexes = np.zeros(50_000, np.int32), np.full(50_000, 9, np.uint8)
    waits = []
    watch = bench_clock.Stopwatch(lambda: waits.append(1))
    started = time.perf_counter()
    with watch.on_coder():
        encoder = StreamEncoder()
        encoder.put(symbols, indexes, tables)
        decoder = StreamDecoder(encoder.finish())
        assert len(waits) == 4
        seen = watch.seconds
        watch.on = False
        assert (decoder.get(indexes, tables) == 0).all()
        assert watch.seconds == seen and len(waits) == 4
    assert 0 < seen < time.perf_counter() - started
    assert StreamEncoder.put is before


@pytest.mark.skipif(sys.platform != "linux", reason="the mark is Linux's")
def test_peak_memory_is_of_what_ran_inside():
    def peak(megabytes: int) -> int | None:
        with bench_clock.peak_memory() as found:
            np.ones(megabytes << 20, np.uint8)
            return found()

    large, small = peak(64), peak(1)
    if large is None:
        pytest.skip("the kernel's mark cannot be put back here")
    assert 64e6 < large < 90e6 and small < 30e6


def test_signals_are_the_same_every_time_and_files_are_read(tmp_path, photo):
    x = bench_signals.image(64, 48)
    assert x.shape == (3, 48, 64) and 0 <= x.min() < 0.4 < 0.6 < x.max() <= 1
    assert (x == bench_signals.image(64, 48)).all()
    voice = bench_signals.speech(8000, 1.0)
    assert voice.shape == (1, 8000) and 0.4 < abs(voice).max() < 0.7
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.repeat(voice.T, 2, axis=1), 8000)
    found = bench_signals.read_speech_file(path, 8000)
    assert found.shape == voice.shape and abs(found - voice).max() < 1e-3
    assert bench_signals.read_speech_file(path, 16000).shape == (1, 16000)


def test_options_of_the_other_benchmark_are_refused(cli):
    for args, word in (
        (["coder", "--codec", "image/default"], "codecs is for codec"),
        (["coder", "--threads", 2], "threads is for codec"),
        (["codec", "--symbols", 5], "symbols is for coder"),
        (["codec", "--repeats", 0], "repeat"),
        (["codec", "--threads", 0], "thread"),
        (["codec", "--quality", 101], "quality"),
        (["codec", "--codec", "image/none", "image/nil", "--device", "tpu"], "tpu"),
    ):
        code, out, err = cli("bench", *args)
        assert (code, out) == (2, "") and word in err, (args, err)
    assert cli("bench", "codec", "--codec", "image/none")[0] == 5
    assert cli("bench", "codec", "--input", "gone.png")[0] == 3


def test_a_codec_of_another_kind_than_the_input_is_refused(
    cli, tmp_path, tiny_checkpoint
):
    (tmp_path / "talk.wav").write_bytes(b"RIFF....WAVE")
    name = f"image/mine@{tiny_checkpoint}"
    code, _, err = cli("bench", "codec", "--codec", name, "--input", "talk.wav")
    assert code == 2 and "speech" in err and name in err
