# SPDX-License-Identifier: Apache-2.0
"""The other side of adversarial training: discriminators, their losses, their steps.

             discriminators go down                  the codec goes down
    hinge    relu(1 - D(x)) + relu(1 + D(x̂))         relu(1 - D(x̂))
    linear   the same                                -D(x̂)
    squares  (1 - D(x))² + D(x̂)²                     (1 - D(x̂))²
    feature                                          |f(x) - f(x̂)| / mean |f(x)|

Means over discriminators, and for features over their layers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polycodec.train.sections import AdversarySection

if TYPE_CHECKING:
    from lightning.fabric import Fabric

CLIP = 10.0
Judged = tuple[Tensor, list[Tensor]]  # logits, features


class Adversary:
    """Discriminators with an optimizer of their own, on the devices of ``fabric``.

    ``model``: signals x (B, C, *S) -> what each judged.
    """

    def __init__(
        self,
        section: AdversarySection,
        fabric: Fabric,
        precision: Callable[[], AbstractContextManager[Any]],
        model: nn.Module,
    ) -> None:
        self.section, self.fabric, self.precision = section, fabric, precision
        optimizer = torch.optim.AdamW(
            model.parameters(), section.lr, betas=(0.5, 0.9), weight_decay=0.01
        )
        self.model, self.optimizer = fabric.setup(model, optimizer)

    def learn(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Train the discriminators on x̂ and x (B, 1, T); returns their loss."""
        with self.precision():
            judged = self.model(torch.cat([x, x_hat.detach()]))
        loss = torch.zeros((), device=x.device)
        for logits, _ in judged:
            real, false = logits.float().chunk(2)
            if self.section.kind == "least-squares":
                part = (1 - real).square().mean() + false.square().mean()
            else:
                part = (1 - real).relu().mean() + (1 + false).relu().mean()
            loss = loss + part / len(judged)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def terms(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Return what the codec lowers, ``adversary`` and ``feature`` unweighted."""
        judge = self.model.module  # these gradients are not the discriminators'
        judge.requires_grad_(False)
        with self.precision():
            with torch.no_grad():
                real = judge(x)
            false = judge(x_hat)
        judge.requires_grad_(True)
        return {
            "adversary": self._fooled(false),
            "feature": _feature_distance(false, real),
        }

    def _fooled(self, judged: list[Judged]) -> Tensor:
        total = torch.zeros((), device=judged[0][0].device)
        for logits, _ in judged:
            gap = 1 - logits.float()
            lowered = {"hinge": gap.relu(), "linear": gap - 1}
            total = total + lowered.get(self.section.kind, gap.square()).mean()
        return total / len(judged)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self.model.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def _feature_distance(false: list[Judged], real: list[Judged]) -> Tensor:
    total = torch.zeros((), device=false[0][0].device)
    for (_, ours), (_, theirs) in zip(false, real, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            a, b = a.float(), b.float()
            scale = b.abs().mean().clamp_min(1e-6) * len(ours) * len(real)
            total = total + (a - b).abs().mean() / scale
    return total
