# SPDX-License-Identifier: Apache-2.0
"""Training the latent family on speech: rounding begins, rates are steered, export."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")
pytest.importorskip("soundfile", reason="soundfile is not installed")

import soundfile

from polycodec.errors import ModelError, UsageError
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.latent import geometric
from polycodec.train.loop import Trainer
from polycodec.train.speech.task_latent import LatentSpeechTask

RATE = 16000


@pytest.fixture
def config(tmp_path) -> dict:
    """Six steps, the first two without rounding, of a tiny codec on drawn sounds."""
    rng = np.random.default_rng(0)
    (tmp_path / "train").mkdir()
    for i in range(4):
        x = 0.2 * np.sin(np.arange(RATE // 2) * (0.04 + 0.01 * i))
        x = x + 0.05 * rng.normal(size=len(x))
        soundfile.write(tmp_path / "train" / f"{i}.flac", x, RATE)
    spectral = {"name": "spectral", "widths": [16, 16], "depths": [1, 1]}
    return {
        "codec": {
            "name": "latent-speech",
            "channels": 8,
            "levels": 3,
            "transform": spectral,
            "entropy": {"groups": 2, "frames": 2, "hidden": 16, "width": 16},
        },
        "data": {
            "train": str(tmp_path / "train"),
            "cache": str(tmp_path / "cache"),
            "seconds": 0.2,
            "batch": 6,
            "holdout": 2,
        },
        "loss": {"windows": [128], "mels": [10], "spectrum_windows": [128]},
        "stages": {"unquantized": 2, "frames": 64},
        "rates": {"kbps": [1, 4], "follow": 0.01},
        "run": {
            "out": str(tmp_path / "run"),
            "steps": 6,
            "save_every": 3,
            "log_every": 1,
            "accelerator": "cpu",
        },
        "eval": {"every": 6, "utterances": 2, "seconds": 0.4},
    }


def logged(run) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_rounds_and_steers(config, tmp_path):
    trainer = Trainer(parse_config(config))
    assert isinstance(trainer.task, LatentSpeechTask)
    before = trainer.task.log_weight.clone()
    trainer.train()
    rows = logged(tmp_path / "run")
    train = [row for row in rows if row["kind"] == "train"]
    assert ["kbps" in row for row in train] == [False, False, True, True, True, True]
    assert all(0 < row["kbps"] < 50 for row in train[2:])
    assert [row["step"] for row in rows if row["kind"] == "steps"] == [2]
    points = [row for row in rows if row["kind"] == "validation"][-1]["points"]
    assert [p["levels"] for p in points] == [1, 2, 3]
    kbps = [p["kbps"] for p in points]
    assert kbps == sorted(kbps) and kbps[0] > 0
    moved = trainer.task.log_weight - before
    assert bool(moved.any()) and float(moved.abs().max()) <= 0.01 * 6 * 4


def test_weights_move_towards_the_rates_wanted(config):
    task = Trainer(parse_config(config)).task
    assert torch.allclose(task.wanted, torch.tensor([1.0, 2.0, 4.0]))
    before = task.log_weight.clone()
    task._follow(torch.tensor([1, 1, 3]), torch.tensor([1.5, 1.5, 0.01]))
    moved = (task.log_weight - before) / 0.01
    assert moved.tolist() == pytest.approx([2 * np.log(1.5), 0, -1], abs=1e-4)
    assert geometric((1.5, 8), 8)[[0, -1]].tolist() == pytest.approx([1.5, 8])


class Killed(Exception):
    """Stands for a run that ends between two steps."""


def test_a_resumed_run_repeats_an_uninterrupted_one(config, tmp_path, monkeypatch):
    Trainer(parse_config(config)).train()
    whole = read_checkpoint(tmp_path / "run")
    config["run"]["out"] = str(tmp_path / "again")
    right = LatentSpeechTask.loss

    def dies(self, step):
        if step == 4:
            raise Killed
        return right(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(LatentSpeechTask, "loss", dies)
        with pytest.raises(Killed):
            Trainer(parse_config(config)).train()
    assert read_checkpoint(tmp_path / "again")["step"] == 3
    Trainer(parse_config(config), resume=True).train()
    again = read_checkpoint(tmp_path / "again")
    assert torch.equal(again["task"]["log_weight"], whole["task"]["log_weight"])
    for part in ("codec", "ema"):
        for name, value in whole[part].items():
            assert torch.equal(again[part][name], value), name


def test_exported_it_codes(config, tmp_path):
    Trainer(parse_config(config)).train()
    from polycodec.codecs.zoo import load
    from polycodec.train.export import export

    said = []
    card = export(tmp_path / "run", progress=said.append)
    assert card["modality"] == "speech" and card["rates"] == 3
    assert len(card["certificate"]) == 6
    assert all(row["used"] <= 1 for row in card["certificate"])
    for point in card["validation"]:
        assert point["kbps"] > point["estimated_kbps"] > 0
        assert np.isfinite(point["mel"])
    assert any("oneDNN off" in text for text in said)
    assert str(tmp_path) not in json.dumps(card)
    codec = load(checkpoint=tmp_path / "run")
    x = torch.randn(1, 1, 1234) * 0.1
    assert codec.decompress(codec.compress(x, 2)).shape == x.shape


def test_a_checkpoint_that_decodes_wrongly_is_no_codec(config, tmp_path, monkeypatch):
    Trainer(parse_config(config)).train()
    from polycodec.entropy_models.models.walk import Walk
    from polycodec.train.export import export

    right = Walk.place

    def wrong(self, g):
        whole, table = right(self, g)
        return whole + 1, table

    monkeypatch.setattr(Walk, "place", wrong)
    before = sorted(p.name for p in (tmp_path / "run").iterdir())
    with pytest.raises(ModelError, match=r"'exact'|'codes'"):
        export(tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before


@pytest.mark.parametrize("ends", [[0, 8], [1.5, -1]])
def test_rates_that_are_none_are_named(config, ends):
    config["rates"]["kbps"] = ends
    with pytest.raises(UsageError, match=r"rates\.kbps"):
        parse_config(config)
