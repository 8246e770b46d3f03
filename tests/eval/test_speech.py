# SPDX-License-Identifier: Apache-2.0
"""Speech evaluation: data sets, real bytes, resumed runs, a page with sound."""

from __future__ import annotations

import importlib.util
import json
import zlib

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the eval extra")
pytest.importorskip("matplotlib", reason="needs the eval extra")
pytest.importorskip("bjontegaard", reason="needs the eval extra")

from pages import Page

from polycodec.codecs.measures import speech as measures
from polycodec.codecs.measures.speech import RATE
from polycodec.errors import InputError, UsageError
from polycodec.eval.kind import kind_of
from polycodec.eval.run import evaluate
from polycodec.eval.speech import wave as sound
from polycodec.eval.speech.datasets import SPEECH, SpeechFile
from polycodec.eval.speech.subjects import SpeechCodec
from polycodec.eval.subjects import Coded, Decoded, Subject

OWN = ["si_sdr", "mel"]  # measures that need no package, and little time


def voice(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """A buzz in syllables with some noise, on 16-bit steps."""
    t = np.arange(round(seconds * RATE)) / RATE
    buzz = 2 * ((120 + 10 * seed) * t % 1) - 1
    noise = np.random.default_rng(seed).standard_normal(len(t))
    wave = 0.2 * buzz * np.clip(np.sin(2 * np.pi * 3 * t), 0, 1) + 0.002 * noise
    return sound.as_heard(wave.astype(np.float32))


class CompandingCodec(Subject):
    """A codec of the tests: square roots rounded to a step, and zlib."""

    kind, control = "codec", "quality"
    name = label = "test/companding"

    def __init__(self, settings=(3, 5, 7)):
        self.settings, self.calls = settings, 0

    def missing(self):
        return None

    def versions(self):
        return {"version": 1}

    def compress(self, samples, setting):
        self.calls += 1
        steps = np.round(np.sign(samples) * np.sqrt(np.abs(samples)) * 2**setting)
        data = bytes([int(setting)]) + zlib.compress(steps.astype(np.int16).tobytes())
        return Coded(data, 0.01, 8.0 * len(data) - 100)

    def decompress(self, data):
        steps = np.frombuffer(zlib.decompress(data[1:]), np.int16)
        root = steps.astype(np.float32) / 2 ** data[0]
        return Decoded(np.sign(root) * root**2, 0.01)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "voices"
    place.mkdir()
    for seed in range(2):
        (place / f"{seed}.wav").write_bytes(
            sound.stored(voice(1.0 + seed / 4, seed), "WAV")
        )
    return place


# --- data sets --------------------------------------------------------------------


def test_sounds_are_read_at_16_khz_in_one_channel(tmp_path):
    import av

    path = tmp_path / "stereo.flac"
    t = np.arange(44100) / 44100
    pair = np.stack([np.sin(2 * np.pi * 440 * t), 0 * t])
    data = np.round(16384 * pair).astype(np.int16)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("flac", rate=44100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(data.T.reshape(1, -1), "s16", "stereo")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    x = SpeechFile("stereo", path).read()
    assert x.dtype == np.float32 and abs(len(x) - RATE) <= 2
    peak = np.abs(np.fft.rfft(x)).argmax() * RATE / len(x)
    assert peak == pytest.approx(440, abs=1)
    assert np.array_equal(x, sound.as_heard(x))


def test_flac_and_wav_give_back_their_samples(tmp_path):
    x = voice(0.3)
    for name, data in (
        ("a.wav", sound.stored(x, "WAV")),
        ("a.flac", sound.stored(x, "FLAC")),
    ):
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(SpeechFile(name, tmp_path / name).read(), x)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "matroska"])
@pytest.mark.parametrize(("rate", "layout"), [(16000, "mono"), (44100, "stereo")])
def test_good_files_have_the_samples_that_ffmpeg_has(tmp_path, format, rate, layout):
    """What figures of earlier versions were taken of."""
    import av

    path, channels = tmp_path / f"a.{format}", 1 + (layout == "stereo")
    t = np.arange(rate * 3 // 2) / rate
    waves = [0.5 * np.sin(2 * np.pi * f * t) for f in (440, 500)[:channels]]
    codec = {"wav": "pcm_s16le", "mp3": "mp3", "matroska": "aac"}.get(format, format)
    with av.open(str(path), "w", format=format) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        data = sound.steps(np.stack(waves)).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, "s16", layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    with av.open(str(path)) as file:
        resampler, parts = av.AudioResampler("fltp", "mono", RATE), []
        for decoded in [*file.decode(audio=0), None]:
            parts += [p.to_ndarray()[0] for p in resampler.resample(decoded)]
    assert np.array_equal(sound.read(path), np.concatenate(parts))


def test_speech_that_lacks_packets_is_refused(tmp_path):
    """Its figures were of what is left, and nothing said so."""
    import av

    whole, cut = tmp_path / "whole.ts", tmp_path / "cut.ts"
    with av.open(str(whole), "w") as file:
        stream = file.add_stream("aac", rate=RATE, layout="mono")
        frame = sound.frame(voice(2.0))
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        packets = [p for p in source.demux(audio=0) if p.size]
        for packet in packets[:9] + packets[12:]:
            packet.stream = stream
            target.mux(packet)
    assert len(SpeechFile("whole", whole).read()) >= 2 * RATE
    with pytest.raises(InputError, match=r"cut\.ts; packets are missing at 1 place"):
        SpeechFile("cut", cut).read()


def test_data_sets_of_sound_are_told_from_those_of_pictures(folder, tmp_path):
    name, files = SPEECH.open(folder)
    assert name == "voices" and [f.name for f in files] == ["0.wav", "1.wav"]
    for dataset in (folder, "speech", [folder / "0.wav"]):
        assert kind_of(dataset).name == "speech"
    for dataset in ("kodak", tmp_path / "a.png"):
        assert kind_of(dataset).name == "image"
    (folder / "cover.png").write_bytes(b"")  # one image among two of speech
    assert kind_of(folder).name == "speech"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no speech files"):
        SPEECH.open(tmp_path / "empty")
    with pytest.raises(InputError, match="no such"):
        SPEECH.open([tmp_path / "nowhere.wav"])
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(InputError, match=r"text\.wav"):
        SPEECH.open([tmp_path / "text.wav"])[1][0].read()


def test_the_test_utterances_have_to_be_named(tmp_path, monkeypatch):
    monkeypatch.delenv("POLYCODEC_DATA", raising=False)
    with pytest.raises(InputError, match="--data"):
        SPEECH.open("speech")
    place = tmp_path / "speech" / "test"
    place.mkdir(parents=True)
    (place / "a.flac").write_bytes(sound.stored(voice(0.2), "FLAC"))
    assert [f.name for f in SPEECH.open("speech", data=tmp_path)[1]] == ["a.flac"]


# --- our own codecs ---------------------------------------------------------------


def test_our_codecs_are_measured_through_their_files(folder, tmp_path, sound_weights):
    """Real containers of the tiny codec: every byte of them is the rate."""
    subject = SpeechCodec("speech/default", device="cpu", settings=(0, 100))
    x = voice(1.5)
    coded = subject.compress(x, 100)
    assert coded.data[:4] == subject.compress(x, 0).data[:4] and coded.seconds > 0
    assert coded.size == len(coded.data)
    # 400 positions a second, 4 levels of 4 bits.
    assert coded.estimated_bits == pytest.approx(1.5 * 400 * 4 * 4, rel=0.01)
    heard = subject.decompress(coded.data).signal
    assert heard.shape == x.shape
    found = evaluate(folder, out=tmp_path / "out", **options(subject))
    coarse, fine = found.curve("speech/default").points
    assert coarse.rate < fine.rate
    assert coarse.scores["si_sdr"].value < fine.scores["si_sdr"].value
    asked = SpeechCodec("speech/default", control="target_kbps", settings=(6.0,))
    assert 8 * asked.compress(x, 6.0).size / 1.5 <= 6000


# --- runs -------------------------------------------------------------------------


def options(codec, **more):
    return {
        "codecs": [codec],
        "anchors": ["opus"],
        "anchor_settings": {"opus": (8, 16)},
        "measures": OWN,
        "report": False,
        **more,
    }


def test_a_run_resumes_and_takes_only_what_it_lacks(folder, tmp_path):
    codec, out = CompandingCodec(), tmp_path / "out"
    first = evaluate(folder, out=out, **options(codec, measures=["mel"]))
    lines = (out / "results.jsonl").read_text().splitlines()
    assert len(lines) == 2 * (3 + 2) and codec.calls == 6
    again = evaluate(folder, out=out, **options(codec, measures=["mel"]))
    assert codec.calls == 6 and again.curves == first.curves
    # A measure more: everything is coded once more, and what is known is kept.
    both = evaluate(folder, out=out, **options(codec))
    assert codec.calls == 12
    rows = [row for row in both.rows if row.codec == codec.name]
    assert all(set(row.scores) == set(OWN) == set(row.rules) for row in rows)
    # Another folder may take what this one knows; another version may not.
    evaluate(folder, out=tmp_path / "other", reuse=[out], **options(codec))
    assert codec.calls == 12
    codec.versions = lambda: {"version": 2}
    evaluate(folder, out=out, **options(codec))
    assert codec.calls == 18


def test_a_named_measure_that_is_not_installed_is_skipped_with_its_reason(
    folder, tmp_path, monkeypatch
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "speechmos" else real(name),
    )
    wanted = options(CompandingCodec(), measures=["mel", "dnsmos"], limit=1)
    found = evaluate(folder, out=tmp_path / "out", **wanted)
    assert found.run.skipped == {"DNSMOS": "speechmos is not installed"}
    assert "speechmos is not installed" in (tmp_path / "out" / "table.md").read_text()


def test_rates_are_the_bits_of_all_files_over_their_seconds(folder, tmp_path):
    codec, out = CompandingCodec(), tmp_path / "out"
    found = evaluate(folder, out=out, **options(codec))
    point = found.curve(codec.name).points[0]
    rows = [r for r in found.rows if r.codec == codec.name and r.setting == 3]
    assert found.seconds == pytest.approx(2.25)
    total = sum(row.bytes for row in rows)
    assert point.rate == pytest.approx(8 * total / 2.25 / 1000)
    assert point.estimated_rate == pytest.approx((8 * total - 200) / 2.25 / 1000)
    written = json.loads((out / "run.json").read_text())
    assert written["curves"][0]["points"][0]["rate"] == pytest.approx(point.rate)
    text = (out / "table.md").read_text()
    assert "| Opus | 8 |" in text and "95 % bootstrap" in text
    said = found.summary().splitlines()
    assert said[0] == "voices: 2 speech files, 2 s"
    assert sum(line.startswith("Opus ") for line in said) == 2
    assert any("without the Ogg file, which would add" in line for line in said)


def test_files_that_cannot_be_judged_are_counted_not_scored(folder, tmp_path):
    (folder / "2.wav").write_bytes(sound.stored(np.zeros(RATE, np.float32), "WAV"))
    found = evaluate(folder, out=tmp_path / "out", **options(CompandingCodec()))
    mean = found.curve("test/companding").points[0].scores["si_sdr"]
    assert mean.without == 1
    assert any("2.wav" in line and "silent" in line for line in found.facts())
    assert any("si_sdr are over 2 of 3 files" in line for line in found.facts())
    assert "(1 without)" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"anchors": ["opus", "opus"], "anchor_settings": None},
        {"anchors": [], "codecs": [], "anchor_settings": None},
        {"anchors": [], "anchor_settings": {"opus": (6,)}},
        {"qualities": [1], "target_kbps": [1]},
        {"limit": 0},
    ],
)
def test_contradictions_are_usage_errors(folder, tmp_path, change):
    with pytest.raises(UsageError):
        evaluate(folder, out=tmp_path, **options(CompandingCodec(), **change))


def test_a_codec_that_fails_is_named_with_file_and_setting(folder, tmp_path):
    codec = CompandingCodec()

    def refuse(data):
        raise ValueError("no such stream")

    codec.decompress = refuse
    with pytest.raises(InputError, match=r"companding at quality 3 on 0\.wav failed"):
        evaluate(folder, out=tmp_path, **options(codec))


def test_the_command_line_sends_sound_here_and_refuses_options_of_pictures(
    cli, folder, tmp_path
):
    own = ("--dataset", folder, "--codec", "opus", "--anchors", "", "--measures", "mel")
    code, out, _ = cli("eval", *own, "-o", tmp_path / "out", "--limit", 1)
    assert code == 0 and out.startswith("voices: 1 speech file,")
    code, _, err = cli("eval", *own, "-o", tmp_path / "out", "--target-bpp", "1")
    assert code == 2 and "--target-bpp is for data sets of image" in err
    code, _, err = cli("eval", *own, "-o", tmp_path / "out", "--show", "a")
    assert code == 2 and "--show is for data sets of image" in err
    code, _, err = cli("eval", "--target-kbps", "6", "-o", tmp_path / "out")
    assert code == 2 and "--target-kbps is for data sets of speech" in err


# --- the page ---------------------------------------------------------------------


def test_the_page_needs_nothing_outside_itself_and_can_be_heard(folder, tmp_path):
    published = tmp_path / "points.json"
    entry = {"codec": "An <old> one", "kbps": 10, "test_set": "x", "status": "measured"}
    published.write_text(json.dumps({"points": [{**entry, "stoi": 0.5}]}))
    out = tmp_path / "out"
    more = {"report": True, "published": published, "measures": ["stoi", "mel"]}
    evaluate(folder, out=out, **options(CompandingCodec(), **more))
    text = (out / "report.html").read_text()
    page = Page(text)
    assert "<old>" not in text and "An &lt;old&gt; one" in text
    # Both utterances: the original, three settings of ours, two of Opus.
    assert page.players == 2 * (1 + 3 + 2)
    assert "<title>Opus: " in text  # points say their numbers
    taken = ["mel"] + ["stoi"] * bool(measures.chosen(["stoi"]))
    for name in taken:
        assert (out / f"{name}.png").stat().st_size > 1000
        assert (out / f"{name}.svg").stat().st_size > 1000
