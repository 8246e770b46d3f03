# SPDX-License-Identifier: Apache-2.0
"""The training loop: one procedure for one core, one GPU and torchrun.

    batch(seed, step) ─► codec ─► bpp + λ 255² MSE ─► clip ─► optimizer ─► EMA

Everything random in a step comes from (seed, step, rank), so a resumed run repeats
an uninterrupted one bit for bit on a CPU. Devices, precision and DDP are Lightning
Fabric's.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor

from polycodec.codecs.base import load_codec
from polycodec.errors import InputError, ModelError, UsageError
from polycodec.registry import build
from polycodec.train.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from polycodec.train.config import RunSection, TrainConfig
from polycodec.train.data import CropSource, ImageCache
from polycodec.train.log import RunLog
from polycodec.train.loss import rate_distortion
from polycodec.train.optim import learning_rate

INITIAL_CROPS = 256  # for the transform a codec starts from


def draw_levels(count: int, top: float) -> Tensor:
    """Rate levels (B,) in 0 … top; 4 % fall exactly on either end.

    Gains are interpolated between knots, so the outermost ones would otherwise see
    half of the others' gradients, and -q 0 is where a file has the fewest bits.
    """
    margin = 0.04 * top
    return (torch.rand(count) * (top + 2 * margin) - margin).clamp(0, top)


def _fabric(run: RunSection) -> Fabric:
    """Devices of the config, or as many processes as torchrun has started.

    Fabric's own mixed precision would also round the inputs, pixels and rate level,
    to bfloat16; autocast alone leaves them as they are.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 0))  # set by torchrun
    if not local:
        return Fabric(accelerator=run.accelerator, devices=run.devices)
    if run.devices not in (1, local):
        raise UsageError(
            f"run.devices is {run.devices}, torchrun started {local} processes here; "
            "leave run.devices out, or make them equal"
        )
    nodes = int(os.environ["WORLD_SIZE"]) // local
    return Fabric(accelerator=run.accelerator, devices=local, num_nodes=nodes)


class Trainer:
    """A run: builds codec, data and optimizer from a config, trains, saves."""

    def __init__(self, config: TrainConfig, *, resume: bool = False) -> None:
        self.config = config
        run = config.run
        self.fabric = _fabric(run)
        self.fabric.launch()
        torch.manual_seed(run.seed)
        self.out = Path(run.out)
        self.step, self.seconds = 0, 0.0  # of all parts of a resumed run together
        codec = build(f"codec/{config.codec.name}", **config.codec.options())
        self.log = RunLog(self.out, enabled=self.fabric.is_global_zero)
        self.source = self._source()
        self.initialised = 0
        if run.init is not None:
            self.initialised = self._init_from(codec, run.init)
        elif not resume and hasattr(codec, "initialise"):
            codec.initialise(self.source.sample(INITIAL_CROPS))
        codec = codec.to(memory_format=torch.channels_last)
        optimizer = build(
            f"optimizer/{config.optim.name}",
            params=codec.parameters(),
            lr=config.optim.lr,
        )
        self.codec, self.optimizer = self.fabric.setup(codec, optimizer)
        self.forward = torch.compile(self.codec) if run.compile else self.codec
        self.ema = {k: v.clone() for k, v in self._weights().items()}
        if resume:
            self._resume()
        elif (self.out / CHECKPOINT).exists() and self.fabric.is_global_zero:
            raise InputError(
                f"{self.out} already holds a run; use --resume or another run.out"
            )

    def train(self) -> None:
        """Run until ``run.steps``; checkpoint, validate and log on the way."""
        run = self.config.run
        self.log.start(self.config, self.step, self.initialised)
        first, spent_before = self.step, self.seconds
        while self.step < run.steps:
            started = time.monotonic()
            values = self._step()
            self.seconds += time.monotonic() - started
            self.step += 1
            if self.step % run.log_every == 0 or self.step == run.steps:
                spent = (self.seconds - spent_before) / (self.step - first)
                self.log.line(self.step, run.steps, spent, values)
            if self.step % self.config.eval.every == 0 or self.step == run.steps:
                self.log.validation(self.step, self.validate())
            if self.step % run.save_every == 0 or self.step == run.steps:
                self.save()
        self.log.close()

    def _step(self) -> dict[str, float]:
        optim, rank = self.config.optim, self.fabric.global_rank
        lr = learning_rate(
            self.step,
            peak=optim.lr,
            warmup=optim.warmup,
            steps=self.config.run.steps,
            decay=optim.decay,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        x, rng = self.source.batch_at(self.step, rank)
        torch.manual_seed(int(rng.integers(2**62)))  # the noise of this step
        level = draw_levels(x.shape[0], self._module.knots - 1)
        x = self.fabric.to_device(x.contiguous(memory_format=torch.channels_last))
        level = self.fabric.to_device(level)
        with self._precision():
            out = self.forward(x, level)
        loss, bpp, mse = rate_distortion(
            out.bits, out.x_hat, x, self._module.lmbda_of(level), optim.balance
        )
        self._guard(loss)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.codec, self.optimizer, max_norm=optim.clip, error_if_nonfinite=False
        )
        self._guard(norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average(optim.ema)
        return {
            "loss": loss.item(),
            "bpp": bpp.mean().item(),
            "psnr": -10 * mse.log10().mean().item(),
            "norm": norm.item(),
            "lr": lr,
        }

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

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Estimated bpp and PSNR of the averaged weights at every quality."""
        section, module = self.config.eval, self._module
        x = self.fabric.to_device(
            self.source.validation(section.size)[: section.images]
        )
        live = {k: v.clone() for k, v in self._weights().items()}
        module.load_state_dict(self.ema, strict=False)
        self.codec.eval()
        rows = []
        for quality in section.qualities:
            level = x.new_full((x.shape[0],), quality / 100 * (module.knots - 1))
            with self._precision():
                out = self.codec(x, level)
            mse = (out.x_hat.float().clamp(0, 1) - x).square().mean(dim=(1, 2, 3))
            bpp = out.bits.mean().item() / (x.shape[-1] * x.shape[-2])
            psnr = -10 * mse.log10().mean().item()
            rows.append({"quality": quality, "estimated_bpp": bpp, "psnr": psnr})
        self.codec.train()
        module.load_state_dict(live, strict=False)
        return rows

    def save(self) -> None:
        """Write the checkpoint to a temporary name, then rename it."""
        if self.fabric.is_global_zero:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "codec": self._weights(),
                "ema": self.ema,
                "optimizer": self.optimizer.state_dict(),
                "config": json.dumps(self.config.model_dump(mode="json")),
            }
            write_checkpoint(state, self.out)
        self.fabric.barrier()

    def _precision(self):
        mixed = self.config.run.precision == "bf16-mixed"
        return torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=mixed)

    @property
    def _module(self):
        return self.codec.module

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach() for k, v in self._module.state_dict().items()}

    def _source(self) -> CropSource:
        data = self.config.data
        with self.fabric.rank_zero_first(local=True):  # one process fills the cache
            images = ImageCache(data.train, data.cache, self.log.decoding)
        return CropSource(
            images,
            crop=data.crop,
            batch=data.batch,
            seed=self.config.run.seed,
            holdout=data.holdout,
        )

    def _resume(self) -> None:
        state = read_checkpoint(self.out)
        self.step, self.seconds = state["step"], state["seconds"]
        try:
            self._module.load_state_dict(state["codec"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"the checkpoint in {self.out} does not fit this config; {reason}; "
                "resume with the config it was made with"
            ) from error
        self.ema = {k: self.fabric.to_device(v) for k, v in state["ema"].items()}

    @staticmethod
    def _init_from(codec, path: str) -> int:
        """Start from the weights of an exported codec wherever names and sizes agree.

        A part may be another one now: a new entropy model on a trained transform.
        Returns how many tensors fitted.
        """
        known = load_codec(path).state_dict()
        wanted = codec.state_dict()
        fits = {
            k: v
            for k, v in known.items()
            if k in wanted
            and v.shape == wanted[k].shape
            and not k.endswith(".input_step")  # the grid of a frozen layer
        }
        if not fits:
            raise ModelError(
                f"no weight of {path} fits this codec; expected weights of the same "
                "parts; correct run.init or the codec section"
            )
        codec.load_state_dict(fits, strict=False)
        return len(fits)
