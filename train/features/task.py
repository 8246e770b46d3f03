# SPDX-License-Identifier: Apache-2.0
"""Codecs of features, by distillation: a teacher, then two stages of a student.

    features/classes   a whole network learns classes          cross-entropy
    features/feature   g_a, g_s, the densities     β bits + Σ |teacher's - own|² of all
                       (the head is the teacher's, frozen)                     stages
    features/answers   g_s and the head; files stay as they are
                       (1 - soft) cross-entropy + soft T² KL(teacher || student)

Both losses of the student are means over a batch of sums over a picture, so β has the
meaning that it has in Matsubara et al. 2022 (arXiv 2108.11898), sections 3.2 and 3.3.
Items of a batch have levels of their own; β is given for each, or falls geometrically
from the first to the last. Batch norms of a frozen head keep their statistics.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.feature import FeatureCodec, FeatureOutput
from polycodec.codecs.signals.features import FeatureSignal
from polycodec.errors import UsageError
from polycodec.registry import register
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.export import averaged_codec
from polycodec.train.features.data import check_labels, classes_of
from polycodec.train.latent import geometric
from polycodec.train.task import Task, made_for

SAMPLE = 512  # pictures whose latents the steps start from
BATCH = 128  # of validation


class ClassTask(Task):
    """Base: pictures with classes, and how often a codec's answer is right."""

    family = FeatureCodec
    quantized = True

    def open(self, codec: Codec) -> None:
        own = made_for(FeatureCodec, codec)
        signal = made_for(FeatureSignal, own.signal)
        self.source = classes_of(self.config, signal, self.fabric, self.log)
        check_labels(self.source.labels, own.labels)

    @property
    def codec(self) -> FeatureCodec:
        return made_for(FeatureCodec, super().codec)

    def drawn(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, classes and levels of a step, on the device; seeds its noise."""
        fabric = self.fabric
        x, classes, rng = self.source.batch_at(
            step, fabric.global_rank, fabric.world_size
        )
        torch.manual_seed(int(rng.integers(2**62)))
        level = torch.randint(1, self.codec.levels + 1, (len(x),)).float()
        x = x.contiguous(memory_format=torch.channels_last)
        return fabric.to_device(x), fabric.to_device(classes), fabric.to_device(level)

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Accuracy and estimated bytes at every level, of rounded latents."""
        x, classes = self.source.validation(self.config.eval.images)
        levels = range(1, self.codec.levels + 1) if self.quantized else (0,)
        rows = []
        for level in levels:
            right, bits = 0.0, 0.0
            for part, wanted in zip(x.split(BATCH), classes.split(BATCH), strict=True):
                part = self.fabric.to_device(part)
                at = part.new_full((len(part),), float(level))
                with self.precision():
                    out = self.model(part, at, quantize=self.quantized)
                right += float((out.logits.argmax(1).cpu() == wanted).sum())
                bits += float(out.bits.sum())
            row = {"level": level, "estimated_bytes": bits / 8 / len(x)}
            rows.append({**row, "accuracy": right / len(x)})
        return rows

    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Bytes and accuracy in percent."""
        points = (f"{r['estimated_bytes']:.0f}/{100 * r['accuracy']:.1f}" for r in rows)
        return f"bytes/%: {'  '.join(points)}"


@register("task/features/classes")
class TeacherTask(ClassTask):
    """Classes alone; nothing is rounded, nothing has a rate."""

    sections = ("classes",)

    quantized = False

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy with smoothed labels."""
        x, classes, level = self.drawn(step)
        with self.precision():
            out: FeatureOutput = self.forward(x, level, quantize=False)
        logits = out.logits.float()
        loss = F.cross_entropy(
            logits, classes, label_smoothing=self.config.classes.smooth
        )
        return loss, {"accuracy": (logits.argmax(1) == classes).float().mean()}


class StudentTask(ClassTask):
    """Base of both stages: a frozen teacher beside the student."""

    def setup(self) -> None:
        """Read the teacher: a run of a codec of features, its averaged weights."""
        run = self.config.classes.teacher
        if run is None:
            raise UsageError(
                "classes.teacher is not given; expected the folder of a run of the "
                "task features/classes"
            )
        state = read_checkpoint(Path(run))
        teacher = averaged_codec(state, parse_config(json.loads(state["config"])))
        self.teacher = made_for(FeatureCodec, teacher).requires_grad_(False)
        self.fabric.to_device(self.teacher)  # a module moves in place
        check_labels(self.teacher.labels, self.codec.labels)

    @torch.no_grad()
    def taught(self, x: Tensor) -> FeatureOutput:
        """What the teacher makes of pictures."""
        made: FeatureOutput = self.teacher(x, x.new_ones(len(x)), quantize=False)
        return made


def prices(beta: Sequence[float], levels: int) -> Tensor:
    """What a bit costs at each level, (levels,); of two ends what lies between them."""
    if len(beta) not in (2, levels) or min(beta) <= 0:
        raise UsageError(
            f"classes.beta is {list(beta)}; expected values above 0, two ends or one "
            f"for each of {levels} levels"
        )
    if len(beta) == levels:
        return torch.tensor(beta)
    return geometric((beta[0], beta[-1]), levels)


@register("task/features/feature")
class FeatureTask(StudentTask):
    """Stage 1: the bottleneck learns to stand for the teacher's first stage."""

    sections = ("classes", "stages")

    def open(self, codec: Codec) -> None:
        super().open(codec)
        self.beta = prices(self.config.classes.beta, codec.levels)

    def begin(self, step: int) -> tuple[str, ...]:
        """Start the steps and densities from latents, once those are of some use.

        Where rounding begins at once they stay what `run.init` made them.
        """
        self.codec.head.eval()
        if not step or step != self.config.stages.unquantized:
            return ()
        chosen = self.source.train[:: max(1, len(self.source.train) // SAMPLE)]
        x = self.fabric.to_device(self.source.pictures(chosen))
        with torch.no_grad():
            z = self.codec.latents_of(x, 1)
        self.codec.initialise_steps(z.movedim(1, -1).flatten(0, -2))
        return "rates.", "entropy."

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """β bits + squared errors, of each item weighted by β^-balance."""
        x, classes, level = self.drawn(step)
        quantize = step >= self.config.stages.unquantized
        with self.precision():
            out: FeatureOutput = self.forward(x, level, quantize=quantize)
            wanted = self.taught(x).stages
        pairs = zip(out.stages, wanted, strict=True)
        errors = [(a.float() - b.float()).square().flatten(1).sum(1) for a, b in pairs]
        error, betas = torch.stack(errors).sum(0), self.beta.to(level.device)
        beta = betas[level.long() - 1]
        weight = (betas.log().mean().exp() / beta) ** self.config.optim.balance
        loss = (weight * (beta * out.bits + error)).mean()
        right = (out.logits.argmax(1) == classes).float().mean()
        bytes_ = out.bits.detach().mean() / 8
        said = {"error": error.detach().mean(), "bytes": bytes_, "accuracy": right}
        return loss, said


@register("task/features/answers")
class AnswerTask(StudentTask):
    """Stage 2: g_s and the head learn the task, from classes and the teacher."""

    sections = ("classes", "stages")  # of stage 1, whose config it continues

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy and the teacher's answers; latents are rounded as in files."""
        x, classes, level = self.drawn(step)
        with self.precision():
            out: FeatureOutput = self.forward(x, level, rounded=True)
            wanted = self.taught(x).logits
        own, logits = self.config.classes, out.logits.float()
        hard = F.cross_entropy(logits, classes)
        heat = own.temperature
        soft = F.kl_div(
            (logits / heat).log_softmax(1),
            (wanted.float() / heat).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        loss = (1 - own.soft) * hard + own.soft * heat**2 * soft
        right = (logits.argmax(1) == classes).float().mean()
        return loss, {"accuracy": right, "bytes": out.bits.detach().mean() / 8}
