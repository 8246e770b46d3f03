# SPDX-License-Identifier: Apache-2.0
"""The training loop: one procedure for one core, one GPU and torchrun.

    task: batch(seed, step) ─► codec ─► loss ─► clip ─► optimizer ─► EMA

Everything random in a step comes from (seed, step, rank), so a resumed run repeats
an uninterrupted one bit for bit on a CPU. Devices, precision and DDP are Lightning
Fabric's.
"""

from __future__ import annotations

import copy
import json
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from polycodec.codecs.base import Codec
from polycodec.codecs.stored import with_new_names
from polycodec.errors import InputError, ModelError, UsageError
from polycodec.memory import remember_parts
from polycodec.registry import build, import_parts
from polycodec.train.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from polycodec.train.config import TrainConfig
from polycodec.train.devices import fabric_of
from polycodec.train.log import RunLog
from polycodec.train.optim import learning_rate, matrices_of
from polycodec.train.precision import Precision, fewest_seconds, precision_in
from polycodec.train.start import init_from
from polycodec.train.stopping import first_signal_waits
from polycodec.train.task import Task, part_of


def _hold(codec: nn.Module, only: Sequence[str]) -> None:
    """Leave out of training what begins with none of the prefixes ``only``, if any."""
    names = dict(codec.named_parameters())
    for prefix in only:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(
                f"optim.only names '{prefix}', and no weight begins so; expected "
                f"prefixes of weights such as '{next(iter(names))}'"
            )
    for name, weight in names.items():
        weight.requires_grad_(not only or name.startswith(tuple(only)))


class Trainer:
    """A run: builds codec, data and optimizer from a config, trains, saves."""

    def __init__(self, config: TrainConfig, *, resume: bool = False) -> None:
        self.config = config
        run = config.run
        self.fabric = fabric_of(config)
        self.fabric.launch()
        import_parts(config.imports)  # files as absolute paths, by `load_config`
        torch.manual_seed(run.seed)
        self.out = Path(run.out)
        self.step, self.seconds = 0, 0.0  # of all parts of a resumed run together
        # None until `train` has timed both.
        self.precision: Precision | None = (
            None if run.precision == "auto" else run.precision
        )
        codec = build(f"codec/{config.codec.name}", **config.codec.trained())
        self.log = RunLog(self.out, enabled=self.fabric.is_global_zero)
        task_class = part_of("task", config.task, codec, config.codec.name)
        self.task: Task = task_class(codec, config, self.fabric, self.log)
        self.initialised = 0
        if not resume:  # else the checkpoint has all weights
            if run.init is not None:
                self.initialised = init_from(codec, run.init)
            else:
                self.task.prepare(codec)
        _hold(codec, config.optim.only)
        codec = codec.to(memory_format=torch.channels_last)
        optimizer = build(
            f"optimizer/{config.optim.name}",
            params=codec.parameters(),
            lr=config.optim.lr,
            matrices=matrices_of(codec),
            **config.optim.options,
        )
        self.codec, self.optimizer = self.fabric.setup(codec, optimizer)
        task = self.task
        task.model, task.precision = self.codec, self._autocast
        task.forward = torch.compile(self.codec) if run.compile else self.codec
        task.setup()
        self.ema = {k: v.clone() for k, v in self._weights().items()}
        if resume:
            self._restore(read_checkpoint(self.out))
        elif (self.out / CHECKPOINT).exists() and self.fabric.is_global_zero:
            raise InputError(
                f"{self.out} already holds a run; use --resume or another run.out"
            )

    def train(self) -> None:
        """Run until ``run.steps``; checkpoint, validate and log on the way."""
        run = self.config.run
        if self.fabric.is_global_zero:
            remember_parts(self.config.imports, Path.cwd())
        if self.step >= run.steps:
            self.log.say(
                f"note: {self.out} has {self.step} steps already, and run.steps is "
                f"{run.steps}: nothing is left to do; raise run.steps to go on"
            )
            return
        try:
            self.log.start(self.config, self.step, self.initialised)
            # Processes of one run would stop at steps of their own.
            alone = self.fabric.world_size == 1
            waits: AbstractContextManager[list[int]]
            waits = first_signal_waits() if alone else nullcontext([])
            with waits as heard:
                self._train(heard)
        finally:  # a terminal's cursor comes back, whatever ended the run
            self.log.close()

    def _train(self, heard: Sequence[int]) -> None:
        run = self.config.run
        if self.precision is None:
            self._choose_precision()
        if run.steps <= (warmup := self.config.optim.warmup):
            self.log.say(
                f"note: all {run.steps} steps are of the warm-up; lower optim.warmup, "
                f"{warmup}, to train at the whole optim.lr"
            )
        first, spent_before = self.step, self.seconds
        while self.step < run.steps:
            started = time.monotonic()
            self._begin()
            values = self._step()
            self.seconds += time.monotonic() - started
            self.step += 1
            if self.step % run.log_every == 0 or self.step == run.steps:
                spent = (self.seconds - spent_before) / (self.step - first)
                said = self.task.line(values)
                self.log.line(self.step, run.steps, spent, values, said)
            # Before the validation: an error in it costs no steps.
            if self.step % run.save_every == 0 or self.step == run.steps:
                self.save()
            if self.step % self.config.eval.every == 0 or self.step == run.steps:
                rows = self.validate()
                self.log.validation(self.step, rows, self.task.rows(rows))
            if heard:
                self.save()
                self.log.say(
                    f"stopped after step {self.step}, which is saved; --resume goes on"
                )
                signal.raise_signal(heard[0])

    def _choose_precision(self) -> None:
        """Take the precision whose steps are faster; timing them leaves no trace."""

        def step(precision: Precision) -> None:
            self.precision = precision
            self._step()

        before, device = copy.deepcopy(self._state()), self.fabric.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            seconds = fewest_seconds(step)
        self._restore(before)
        chosen = min(seconds, key=seconds.__getitem__)
        self.precision = self.fabric.broadcast(chosen)  # one for all processes
        each = {p: round(spent, 4) for p, spent in seconds.items()}
        self.log.event("precision", self.step, chosen=self.precision, seconds=each)

    def _begin(self) -> None:
        replaced = self.task.begin(self.step)
        if replaced:  # their averages start anew
            weights = self._weights().items()
            fresh = {k: v.clone() for k, v in weights if k.startswith(replaced)}
            self.ema.update(fresh)

    def _step(self) -> dict[str, float]:
        optim = self.config.optim
        lr = learning_rate(
            self.step,
            peak=optim.lr,
            warmup=optim.warmup,
            steps=self.config.run.steps,
            decay=optim.decay,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, values = self.task.loss(self.step)
        self._guard(loss)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.codec, self.optimizer, max_norm=optim.clip, error_if_nonfinite=False
        )
        assert norm is not None  # None is of strategies that clip by themselves
        self._guard(norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average(optim.ema)
        every = {"loss": loss, **values, "norm": norm}
        return {**{k: v.item() for k, v in every.items()}, "lr": lr}

    def _guard(self, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise ModelError(
                f"step {self.step}: loss or gradient is {value.item()}; expected a "
                f"finite number; resume from {self.out / CHECKPOINT} with a lower "
                f"optim.lr (now {self.config.optim.lr})"
            )

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        decay = min(decay, (1 + self.step) / (10 + self.step))
        weights = self._weights()
        keys = [k for k in weights if weights[k].is_floating_point()]
        torch._foreach_lerp_(
            [self.ema[k] for k in keys], [weights[k] for k in keys], 1 - decay
        )
        for k in weights.keys() - keys:
            self.ema[k].copy_(weights[k])

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Measure rate and quality of the averaged weights; see the task."""
        live = {k: v.clone() for k, v in self._weights().items()}
        self._module.load_state_dict(self.ema, strict=False)
        self.codec.eval()
        rows = self.task.validate(self.step)
        lost = {k for row in rows for k, v in row.items() if v != v}
        if lost:
            self.log.say(
                f"note: the validation at step {self.step} gave NaN for "
                f"{', '.join(sorted(lost))}: some signal makes the codec give NaN"
            )
        self.codec.train()
        self._module.load_state_dict(live, strict=False)
        return rows

    def save(self) -> None:
        """Write the checkpoint to a temporary name, then rename it."""
        if self.fabric.is_global_zero:
            write_checkpoint(self._state(), self.out)
        self.fabric.barrier()

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds; its config says which precision was chosen."""
        config = self.config.model_dump(mode="json")
        config["run"]["precision"] = self.precision or "auto"
        return {
            "step": self.step,
            "seconds": self.seconds,
            "codec": self._weights(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "config": json.dumps(config),
            "task": self.task.state(),
        }

    def _autocast(self) -> torch.autocast:
        mixed = self.precision == "bf16-mixed"
        return torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=mixed)

    @property
    def _module(self) -> Codec:
        return cast(Codec, self.codec.module)

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach() for k, v in self._module.state_dict().items()}

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        if self.config.run.precision == "auto":
            self.precision = precision_in(json.loads(state["config"]))
        try:
            self._module.load_state_dict(state["codec"])
            groups = [dict(group) for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(state["optimizer"])
            # The config decides, not the one that the checkpoint was made with.
            for group, own in zip(self.optimizer.param_groups, groups, strict=True):
                group.update({k: v for k, v in own.items() if k != "params"})
            self.task.load_state(state["task"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"the checkpoint in {self.out} does not fit this config; {reason}; "
                "resume with the config it was made with"
            ) from error
        ema = with_new_names(self._module, state["ema"])
        self.ema = {k: self.fabric.to_device(v) for k, v in ema.items()}
