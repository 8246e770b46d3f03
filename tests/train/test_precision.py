# SPDX-License-Identifier: Apache-2.0
"""run.precision=auto: the faster one is taken and kept, and timing leaves no trace."""

from __future__ import annotations

import json
import time

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec.errors import UsageError
from polycodec.train import loop, precision
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.loop import Trainer


def slower(name: str):
    """What stands for a machine on which this precision is slower."""

    def step_and_wait(step):
        def waiting(chosen):
            step(chosen)
            time.sleep(0.25 * (chosen == name))

        return precision.fewest_seconds(waiting)

    return step_and_wait


def test_a_run_that_chooses_is_the_run_that_was_told(
    run_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "ROUNDS", 1)
    monkeypatch.setattr(loop, "fewest_seconds", slower("bf16-mixed"))
    run_config["run"].update(precision="auto", steps=2)
    trainer = Trainer(parse_config(run_config))
    generator = torch.get_rng_state()
    trainer._choose_precision()
    assert torch.equal(torch.get_rng_state(), generator) and trainer.step == 0
    assert trainer.precision == "32-true"
    assert "chosen 32-true" in capsys.readouterr().err
    trainer.train()
    run_config["run"].update(out=str(tmp_path / "told"), precision="32-true")
    Trainer(parse_config(run_config)).train()
    a, b = read_checkpoint(tmp_path / "run"), read_checkpoint(tmp_path / "told")
    assert json.loads(a["config"])["run"]["precision"] == "32-true"  # the card's too
    for part in ("step", "codec", "ema", "optimizer", "task"):
        torch.testing.assert_close(a[part], b[part], rtol=0, atol=0)


def test_a_resumed_run_keeps_what_was_chosen(run_config, monkeypatch):
    run_config["run"].update(precision="32-true", steps=1)
    Trainer(parse_config(run_config)).train()
    run_config["run"].update(precision="auto", steps=2)
    monkeypatch.setattr(loop, "fewest_seconds", None)  # nothing is timed again
    trainer = Trainer(parse_config(run_config), resume=True)
    assert trainer.precision == "32-true"
    trainer.train()
    assert trainer.step == 2


@pytest.mark.parametrize("damaged", [[], {}, {"run": 3}, {"run": {"precision": "64"}}])
def test_a_checkpoint_that_says_no_precision_leaves_it_open(damaged):
    assert precision.precision_in(damaged) is None


def test_the_fastest_of_several_steps_counts(monkeypatch):
    now, spent = [0.0], iter([9, 9, 5, 3, 2, 3, 4, 8])  # first steps, then in turns
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step(chosen):
        now[0] += next(spent)

    assert precision.fewest_seconds(step) == {"bf16-mixed": 2, "32-true": 3}


def test_an_unknown_precision_is_named(run_config):
    run_config["run"]["precision"] = "fp16"
    with pytest.raises(UsageError, match=r"run\.precision.*32-true.*auto.*'fp16'"):
        parse_config(run_config)
