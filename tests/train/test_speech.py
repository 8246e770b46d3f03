# SPDX-License-Identifier: Apache-2.0
"""Training on speech: stages, resuming, losses, export. Tiny codecs, drawn sounds."""

from __future__ import annotations

import copy
import json
import pathlib

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")
pytest.importorskip("soundfile", reason="soundfile is not installed")

import soundfile

from polycodec.errors import InputError, ModelError, UsageError
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.loop import Trainer
from polycodec.train.precision import PRECISIONS

RATE = 16000


class Killed(Exception):
    """Stands for a run that ends between two steps."""


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> pathlib.Path:
    """Six recordings of half a second by three speakers, with a table beside."""
    folder = tmp_path_factory.mktemp("speech") / "train"
    folder.mkdir()
    rng = np.random.default_rng(0)
    t = np.arange(RATE // 2) / RATE
    rows = ["split\tfile\tspeaker"]
    for i in range(6):
        tone = sum(np.sin(2 * np.pi * k * (110 + 20 * i) * t) / k for k in (1, 2, 5))
        x = 0.2 * tone * (1.1 + np.sin(9 * t + i)) + 0.01 * rng.normal(size=len(t))
        soundfile.write(folder / f"{i}.flac", 0.8 * x / np.abs(x).max(), RATE)
        rows.append(f"train\t{i}.flac\t{'abc'[i // 2]}")
    (folder.parent / "index.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def speech_config(recordings, tmp_path) -> dict:
    """A run of four steps: one unquantized, codebooks, three quantized."""
    return {
        "codec": {
            "name": "token",
            "channels": 8,
            "transform": {
                "name": "spectral",
                "widths": [16, 16],
                "depths": [1, 1],
                "expansion": 2,
            },
            "quantizer": {"name": "residual", "levels": 3, "codes": 8},
            "entropy": {"name": "tokens-static"},
        },
        "data": {
            "train": str(recordings),
            "cache": str(recordings.parent / "cache"),
            "seconds": 0.2,
            "batch": 3,
            "holdout": 3,
        },
        "optim": {"lr": 2e-3, "warmup": 2},
        "run": {
            "out": str(tmp_path / "run"),
            "steps": 4,
            "accelerator": "cpu",
            "save_every": 2,
            "log_every": 1,
        },
        "loss": {"windows": [128, 512], "mels": [10, 40]},
        "stages": {"unquantized": 1, "frames": 100},
        "eval": {"every": 100, "utterances": 2, "seconds": 0.4},
    }


def logged(run: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def equal(a, b) -> bool:
    """Whether two checkpoints' parts are the same, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def adversarial(config: dict) -> None:
    config["adversary"] = {
        "names": ["stft", "period"],
        "filters": 2,
        "windows": [256],
        "periods": [2],
        "widths": [4, 8],
        "start": 1,
    }
    config["loss"]["balance"] = True


def structural(config: dict) -> None:
    config["codec"]["quantizer"] = {"name": "structural", "codes": 8, "levels": 2}
    config["stages"] = {"unquantized": 1, "frames": 150, "rebuild": 3}


@pytest.mark.parametrize(
    ("change", "dies_at"),
    [(None, 1), (None, 3), (adversarial, 3), (structural, 3)],
    ids=["before the codebooks", "after them", "adversarial", "structural"],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    speech_config, tmp_path, monkeypatch, change, dies_at
):
    if change:
        change(speech_config)
    speech_config["run"]["save_every"] = dies_at
    Trainer(parse_config(speech_config)).train()
    speech_config["run"]["out"] = str(tmp_path / "parts")
    parts = parse_config(speech_config)
    trainer = Trainer(parts)
    begin = trainer._begin

    def dies():
        if trainer.step == dies_at:
            raise Killed
        return begin()

    monkeypatch.setattr(trainer, "_begin", dies)
    with pytest.raises(Killed):
        trainer.train()
    assert read_checkpoint(tmp_path / "parts")["step"] == dies_at
    Trainer(parts, resume=True).train()
    a, b = read_checkpoint(tmp_path / "run"), read_checkpoint(tmp_path / "parts")
    for part in ("step", "codec", "ema", "optimizer", "task"):
        assert equal(a[part], b[part]), part
    assert bool(a["task"]) == (change is adversarial)


def test_codebooks_of_another_run_are_taken_in_their_sizes(speech_config, tmp_path):
    structural(speech_config)
    Trainer(parse_config(speech_config)).train()
    averaged = read_checkpoint(tmp_path / "run")["ema"]
    speech_config["run"].update(out=str(tmp_path / "on"), init=str(tmp_path / "run"))
    speech_config["stages"] = {"build": False, "unquantized": 0}
    weights = Trainer(parse_config(speech_config))._weights()
    for name in averaged:
        assert torch.equal(weights[name], averaged[name]), name
    assert len(weights["quantizer.books.0.vectors"]) > 1


def test_the_stages_follow_one_another(speech_config, tmp_path):
    speech_config["stages"] |= {"unquantized": 2, "rebuild": 3}
    Trainer(parse_config(speech_config)).train()
    rows = logged(tmp_path / "run")
    kinds = [row["kind"] for row in rows]
    steps = ["train", "train", "codebooks", "train", "codebooks", "train"]
    assert kinds == ["start", *steps, "validation"]
    commitments = [row["commitment"] for row in rows if row["kind"] == "train"]
    assert commitments[:2] == [0, 0] and min(commitments[2:]) > 0
    points = rows[-1]["points"]
    assert [p["levels"] for p in points] == [1, 2, 3]
    assert [p["kbps"] for p in points] == pytest.approx([0.15, 0.3, 0.45])
    for point in points:
        assert 0 <= point["order0_kbps"] <= point["kbps"] + 1e-9
        assert len(point["perplexity"]) == point["levels"]
        assert np.isfinite([point["mel"], point["si_sdr"]]).all()


def test_the_loss_falls_and_the_validation_follows(speech_config, tmp_path):
    speech_config["run"] |= {"steps": 60, "save_every": 100}
    speech_config["optim"] |= {"lr": 1e-2, "decay": 0.2, "ema": 0.8}
    speech_config["stages"]["unquantized"] = 20
    speech_config["eval"]["every"] = 1
    trainer = Trainer(parse_config(speech_config))
    before = trainer.validate()[0]["mel"]
    values = []
    while trainer.step < 60:
        trainer._begin()
        values.append(trainer._step()["mel"])
        trainer.step += 1
    assert np.mean(values[-10:]) < 0.7 * np.mean(values[:5])
    assert trainer.validate()[-1]["mel"] < before


def test_discriminators_are_trained_from_their_first_step_on(speech_config):
    adversarial(speech_config)
    speech_config["adversary"]["start"] = 2
    trainer = Trainer(parse_config(speech_config))
    judges, seen = trainer.task.adversary.model, []
    while trainer.step < 4:
        start = {k: v.clone() for k, v in judges.state_dict().items()}
        trainer._begin()
        values = trainer._step()
        moved = not equal(start, dict(judges.state_dict()))
        seen.append((moved, "adversary" in values))
        trainer.step += 1
    assert seen == [(False, False)] * 2 + [(True, True)] * 2


def test_timing_precisions_leaves_discriminators_and_balance(speech_config):
    """What a task trains beside the codec is as it was, and the loop's step too."""
    adversarial(speech_config)
    speech_config["run"]["precision"] = "auto"
    trainer = Trainer(parse_config(speech_config))
    trainer.step = 1  # discriminators are there
    before = copy.deepcopy(trainer._state())
    trainer._choose_precision()
    after = trainer._state()
    assert trainer.precision in PRECISIONS
    assert after.keys() == before.keys() and after["task"]["balancer"]
    assert all(equal(after[k], before[k]) for k in after.keys() - {"config"})
    trainer._step()
    assert not equal(trainer.task.state(), before["task"])


def test_export_makes_a_codec_of_tokens(speech_config, tmp_path):
    Trainer(parse_config(speech_config)).train()
    from polycodec.codecs.zoo import load
    from polycodec.train.export import export

    said = []
    card = export(tmp_path / "run", progress=said.append)
    assert json.loads((tmp_path / "run/codec.json").read_text()) == card
    assert card["name"] == "speech/run" and card["modality"] == "speech"
    assert card["codes"] == [8, 8, 8] and card["certificate"] == []
    for point in card["validation"]:
        assert 0 < point["estimated_kbps"] < point["fixed_kbps"]
        assert point["kbps"] > 0 and np.isfinite(point["mel"])
    assert any("oneDNN off" in text for text in said)
    assert str(tmp_path) not in json.dumps(card)
    codec = load(checkpoint=tmp_path / "run")
    x = torch.randn(1, 1, 1234) * 0.1
    assert codec.decompress(codec.compress(x, 2)).shape == x.shape


def test_a_live_codec_is_trained_exported_and_talked_with(speech_config, tmp_path):
    speech_config["codec"]["transform"] = {
        "name": "live",
        "widths": [16, 16],
        "hidden": [16, 16],
        "depths": [1, 1],
        "drop": 1.0,
    }
    structural(speech_config)
    speech_config["optim"]["lr"] = 0.1
    Trainer(parse_config(speech_config)).train()
    from polycodec.codecs.zoo import load
    from polycodec.train.export import export

    export(tmp_path / "run")
    codec = load(checkpoint=tmp_path / "run")
    assert abs(float(codec.transform.lost.detach().std()) - 1) > 1e-6
    encoder, decoder = codec.encoder(100), codec.decoder()
    packets = encoder.push(np.zeros(3200, np.float32)) + encoder.flush()
    assert len(packets) == 10 and len(packets[0]) < 8
    packets[4] = None
    assert sum(len(decoder.push(packet)) for packet in packets) == 9 * 320


def test_a_codebook_that_grew_in_training_is_exported_as_it_is(speech_config, tmp_path):
    structural(speech_config)
    Trainer(parse_config(speech_config)).train()
    from polycodec.codecs.zoo import load
    from polycodec.train.export import export

    built = [row["sizes"] for row in logged(tmp_path / "run") if "sizes" in row]
    card = export(tmp_path / "run")
    assert "+".join(map(str, card["codes"])) == built[-1] and card["codes"][0] > 1
    assert load(checkpoint=tmp_path / "run").sizes == tuple(card["codes"])


def test_a_checkpoint_that_fails_is_not_a_codec(speech_config, tmp_path, monkeypatch):
    Trainer(parse_config(speech_config)).train()
    from polycodec.codecs.families.token import TokenCodec
    from polycodec.train.export import export

    right, calls = TokenCodec.read, []

    def wrong(self, *args):
        calls.append(1)  # not every time: equal mistakes would agree
        return (right(self, *args) + len(calls) % 2) % 8

    before = sorted(p.name for p in (tmp_path / "run").iterdir())
    monkeypatch.setattr(TokenCodec, "read", wrong)
    with pytest.raises(ModelError, match="'codes'"):
        export(tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before


@pytest.mark.parametrize(
    ("section", "key", "value", "error", "said"),
    [
        ("loss", "mell", 1, UsageError, "'loss.mel'"),
        ("stages", "unquantised", 1, UsageError, "'stages.unquantized'"),
        ("adversary", "names", ["gan"], UsageError, "adversary.names"),
        ("loss", "mels", [10], UsageError, "loss.mels"),
        ("loss", "spectrum_windows", [64], UsageError, "loss.spectrum_windows"),
        ("loss", "windows", [128, 511], UsageError, "511"),
        ("eval", "levels", [4], UsageError, "eval.levels"),
        ("data", "gain", [3, -3], UsageError, "data.gain"),
        ("stages", "frames", 10**9, InputError, "stages.frames"),
    ],
)
def test_what_a_speech_run_cannot_use_is_named(
    speech_config, monkeypatch, section, key, value, error, said
):
    monkeypatch.setattr("polycodec.train.speech.task.MOST_BATCHES", 2)
    speech_config.setdefault(section, {})[key] = value
    with pytest.raises(error, match=said):
        Trainer(parse_config(speech_config)).train()
