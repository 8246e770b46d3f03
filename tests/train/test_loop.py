# SPDX-License-Identifier: Apache-2.0
"""The training loop: resuming, guards, logs, two processes. Tiny codecs only."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec.errors import InputError, ModelError, UnknownNameError, UsageError
from polycodec.registry import build
from polycodec.train import start
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.loop import Trainer

ROOT = pathlib.Path(__file__).resolve().parents[2]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_options_of_the_optimizer_are_the_configs_after_resuming_too(run_config):
    run_config["run"]["steps"] = 1
    # Wide enough for matrices, which are Muon's.
    run_config["codec"]["transform"] = {"name": "conv", "width": 32}
    run_config["optim"]["options"] = {"weight_decay": 0.25, "betas": [0.8, 0.9]}
    trainer = Trainer(parse_config(run_config))
    trainer.train()
    muon, adam = trainer.optimizer.param_groups
    assert (muon["weight_decay"], muon["momentum"]) == (0.25, 0.95)
    assert adam["betas"] == (0.8, 0.9)
    run_config["optim"]["options"] = {"weight_decay": 0.5}
    resumed = Trainer(parse_config(run_config), resume=True)
    muon, adam = resumed.optimizer.param_groups
    assert (muon["weight_decay"], adam["betas"]) == (0.5, (0.9, 0.98))
    assert resumed.optimizer.state_dict()["state"]  # the momenta are there


def test_options_that_the_optimizer_lacks_are_named(run_config):
    run_config["optim"]["options"] = {"wait_decay": 0.25}
    with pytest.raises(UnknownNameError, match="weight_decay"):
        Trainer(parse_config(run_config))
    run_config["optim"]["options"] = {"lr": 0.25}
    with pytest.raises(UsageError, match=r"optim\.lr"):
        parse_config(run_config)
    run_config["optim"]["options"] = {"momentum": "much"}
    with pytest.raises(UsageError, match="momentum"):
        parse_config(run_config)


def test_a_run_that_finds_no_images_leaves_no_folder(run_config, tmp_path):
    run_config["data"]["train"] = str(tmp_path)
    with pytest.raises(InputError, match="no images below"):
        Trainer(parse_config(run_config))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("warmup", "said"), [(1, True), (0, False)])
def test_a_run_that_never_leaves_its_warm_up_says_so(run_config, capsys, warmup, said):
    run_config["run"]["steps"] = 1
    run_config["optim"]["warmup"] = warmup
    Trainer(parse_config(run_config)).train()
    assert ("optim.warmup" in capsys.readouterr().err) == said


def test_a_last_stage_trains_only_what_it_names(run_config):
    run_config["run"]["steps"] = 2
    run_config["optim"] |= {"only": ["transform.g_s", "entropy.h_s"], "rounded": True}
    trainer = Trainer(parse_config(run_config))
    before = {k: v.clone() for k, v in trainer.codec.module.state_dict().items()}
    trainer.train()
    after = trainer.codec.module.state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert any(k.startswith("transform.g_s") for k in moved)
    assert any(k.startswith("entropy.h_s") for k in moved)
    trained = {k for k, v in trainer.codec.module.named_parameters() if v.requires_grad}
    buffers = {k for k, _ in trainer.codec.module.named_buffers()}
    assert moved <= trained | buffers and len(trained) < len(before)
    run_config["optim"]["only"] = ["transform.g_x"]
    with pytest.raises(UsageError, match=r"transform\.g_x"):
        Trainer(parse_config(run_config))


class Killed(Exception):
    """Stands for a run that ends between two steps."""


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    run_config, tmp_path, monkeypatch, precision
):
    run_config["run"]["precision"] = precision
    whole = parse_config(run_config)
    Trainer(whole).train()
    run_config["run"]["out"] = str(tmp_path / "parts")
    parts = parse_config(run_config)
    trainer = Trainer(parts)
    step = trainer._step

    def dies_at_three():
        if trainer.step == 3:
            raise Killed
        return step()

    monkeypatch.setattr(trainer, "_step", dies_at_three)
    with pytest.raises(Killed):
        trainer.train()
    assert read_checkpoint(tmp_path / "parts")["step"] == 2
    Trainer(parts, resume=True).train()
    a, b = read_checkpoint(tmp_path / "run"), read_checkpoint(tmp_path / "parts")
    assert a["step"] == b["step"] == 4
    assert same(a["codec"], b["codec"]) and same(a["ema"], b["ema"])
    fresh = build("codec/latent", **whole.codec.options()).state_dict()
    assert not same(a["codec"], fresh)
    assert b["seconds"] > 0


def test_the_log_and_the_config_are_kept(run_config, tmp_path):
    Trainer(parse_config(run_config)).train()
    rows = [
        json.loads(line)
        for line in (tmp_path / "run/log.jsonl").read_text().splitlines()
    ]
    assert [r["kind"] for r in rows] == ["start", "train", "train", "validation"]
    assert [p["quality"] for p in rows[-1]["points"]] == [0, 50, 100]
    assert all(np.isfinite(p["psnr"]) for p in rows[-1]["points"])
    kept = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert parse_config(kept) == parse_config(run_config)
    with pytest.raises(InputError, match="--resume"):
        Trainer(parse_config(run_config))


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(run_config, monkeypatch):
    trainer = Trainer(parse_config(run_config))
    trainer._step()
    trainer.step = 1
    with torch.no_grad():
        trainer._module.rates.gain.log_scale.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"step 1: .*nan"):
        trainer._step()


def test_a_run_that_breaks_gives_the_terminal_back(run_config, monkeypatch):
    """A bar that nobody stops hides the cursor of the shell after it."""
    trainer = Trainer(parse_config(run_config))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(trainer, "_step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert trainer.log.bar is not None and not trainer.log.bar.live.is_started


def test_resuming_what_is_done_says_so(run_config, capsys, tmp_path):
    run_config["run"]["steps"] = 1
    Trainer(parse_config(run_config)).train()
    before = (tmp_path / "run" / "log.jsonl").read_text()
    capsys.readouterr()
    Trainer(parse_config(run_config), resume=True).train()
    assert "has 1 steps already" in capsys.readouterr().err
    assert (tmp_path / "run" / "log.jsonl").read_text() == before


def test_resuming_what_is_not_there_or_does_not_fit(run_config, tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        Trainer(parse_config(run_config), resume=True)
    Trainer(parse_config(run_config)).save()
    run_config["codec"]["transform"]["widths"] = [8, 16]
    with pytest.raises(ModelError, match="does not fit this config"):
        Trainer(parse_config(run_config), resume=True)
    (tmp_path / "run/last.pt").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot read the checkpoint"):
        Trainer(parse_config(run_config), resume=True)


def test_devices_that_torchrun_did_not_start_are_refused(run_config, monkeypatch):
    """Two processes that each believe to be alone would write into one folder."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    run_config["run"]["devices"] = 4
    with pytest.raises(UsageError, match=r"devices is 4.*started 2"):
        Trainer(parse_config(run_config))


def test_a_run_can_start_from_exported_weights(run_config, tiny_checkpoint, tmp_path):
    run_config["run"]["init"] = str(tiny_checkpoint)
    trainer = Trainer(parse_config(run_config))
    from polycodec.codecs.stored import load_codec

    given = load_codec(tiny_checkpoint).state_dict()
    key = "entropy.nets.0.context.weight"  # of an exact layer, stored as integers
    assert torch.equal(trainer._weights()[key], given[key])
    assert trainer.initialised > 50
    run_config["run"]["init"] = str(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        Trainer(parse_config(run_config))


def test_a_run_can_start_from_another_run(run_config, tmp_path):
    """Of a folder the averaged weights are taken, into another optimizer's hands."""
    run_config["run"].update(steps=2, out=str(tmp_path / "first"))
    Trainer(parse_config(run_config)).train()
    averaged = read_checkpoint(tmp_path / "first")["ema"]
    run_config["run"].update(out=str(tmp_path / "second"), init=str(tmp_path / "first"))
    run_config["optim"]["name"] = "adam"
    trainer = Trainer(parse_config(run_config))
    weights = trainer._weights()
    assert trainer.initialised > 50
    assert all(
        torch.equal(weights[k], averaged[k])
        for k in averaged
        if not k.endswith(".input_step")
    )
    trainer.save()
    shutil.rmtree(tmp_path / "first")  # what a run began with, it does not need again
    assert same(Trainer(parse_config(run_config), resume=True)._weights(), weights)


def test_units_that_have_died_start_anew(run_config, tmp_path):
    run_config["run"].update(steps=1, out=str(tmp_path / "first"))
    first = Trainer(parse_config(run_config))
    first.train()
    name = next(k for k, v in first.ema.items() if k.endswith("weight") and v.dim() > 3)
    first.ema[name][1:] = 0
    first.save()
    run_config["run"].update(out=str(tmp_path / "second"), init=str(tmp_path / "first"))
    started = Trainer(parse_config(run_config))._weights()[name]
    assert torch.equal(started[0], first.ema[name][0])
    assert (started.flatten(1) != 0).any(1).all()


def test_all_of_a_gaussian_run_starts_a_mixture(run_config, tiny_checkpoint, tmp_path):
    run_config["run"].update(out=str(tmp_path / "run"), init=str(tiny_checkpoint))
    as_it_was = Trainer(parse_config(run_config)).initialised
    run_config["codec"]["entropy"]["prior"] = "mixture"
    assert Trainer(parse_config(run_config)).initialised == as_it_was > 50


def test_two_processes_end_with_equal_weights(run_config, tmp_path):
    """DDP under torchrun: every rank sees other crops, all keep the same weights."""
    run_config["run"].update(steps=2, precision="32-true")
    run_config["eval"]["every"] = 100
    run_config["data"]["cache"] = str(tmp_path / "cache")  # both ranks find it missing
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(run_config))
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys, torch\n"
        "from polycodec.train.config import load_config\n"
        "from polycodec.train.loop import Trainer\n"
        "trainer = Trainer(load_config(sys.argv[1]))\n"
        "trainer.train()\n"
        "torch.save((trainer._weights(), trainer.task.source.batch_at(0,"
        " trainer.fabric.global_rank)[0]),"
        " f'{sys.argv[2]}/{trainer.fabric.global_rank}.pt')\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += [f"--master-port={port}", str(script), str(tmp_path / "c.yaml")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "said.txt", "w") as said:
        started = subprocess.Popen(
            [*command, str(tmp_path)], env=env, stdout=said, stderr=said
        )
        try:
            code = started.wait(timeout=60)
        except subprocess.TimeoutExpired:
            started.terminate()  # it ends its ranks, which have sessions of their own
            started.wait(timeout=60)
            pytest.skip("two processes took longer than 60 s on this machine")
    assert code == 0, (tmp_path / "said.txt").read_text()[-2000:]
    (a, x), (b, y) = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    assert same(a, b) and not torch.equal(x, y)
    assert read_checkpoint(tmp_path / "run")["step"] == 2


def test_a_signal_waits_for_the_step_and_is_kept(run_config, monkeypatch, capsys):
    config = parse_config(run_config)
    trainer = Trainer(config)
    step = trainer._step

    def interrupted():
        if trainer.step == 2:
            signal.raise_signal(signal.SIGINT)
        return step()

    monkeypatch.setattr(trainer, "_step", interrupted)
    # A shell's background jobs begin without a handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    finally:
        heard = signal.signal(signal.SIGINT, before)
    assert read_checkpoint(trainer.out)["step"] == 3  # save_every is 2
    assert "--resume" in capsys.readouterr().err
    assert heard is signal.default_int_handler


def test_a_validation_that_fails_costs_no_steps(run_config, monkeypatch):
    trainer = Trainer(parse_config(run_config))

    def fails():
        raise InputError("no")

    monkeypatch.setattr(trainer, "validate", fails)
    with pytest.raises(InputError):
        trainer.train()
    assert read_checkpoint(trainer.out)["step"] == 4


def test_what_a_validation_lacks_is_said_before_the_first_step(run_config, tmp_path):
    run_config["eval"]["size"] = 1024
    with pytest.raises(InputError, match=r"lower eval\.size"):
        Trainer(parse_config(run_config))
    assert not (tmp_path / "run").exists()


def test_a_run_can_start_from_a_model_by_name_or_an_export(
    run_config, tiny_checkpoint, monkeypatch
):
    run_config["run"]["init"] = str(tiny_checkpoint.parent)
    assert Trainer(parse_config(run_config)).initialised > 50
    monkeypatch.setattr(start, "weights_at", {"image/tiny": tiny_checkpoint}.get)
    run_config["run"]["init"] = "image/tiny"
    assert Trainer(parse_config(run_config)).initialised > 50


def test_an_accelerator_that_is_not_here_is_named(run_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run_config["run"]["accelerator"] = "cuda"
    with pytest.raises(UsageError, match=r"run\.accelerator"):
        Trainer(parse_config(run_config))
