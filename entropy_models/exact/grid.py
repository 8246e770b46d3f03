# SPDX-License-Identifier: Apache-2.0
"""Exact layers whose inputs alone lie on grids: attention, norms, reads.

    observe   the largest value of each input        freeze   steps, powers of two

All sums are of whole float64 numbers, as many as `bound` says at most.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from polycodec.entropy_models.exact.layer import (
    FLOAT64_LIMIT,
    Certificate,
    ExactLayer,
    input_exponent,
    power_of_two,
    snapped,
)
from polycodec.errors import ModelError


class GridLayer(ExactLayer):
    """Base of layers with inputs of ``bits`` each, signs counted."""

    input_step: Tensor
    peak: Tensor

    def __init__(self, *bits: int) -> None:
        super().__init__()
        self.bits: tuple[int, ...] = bits
        # BITSTREAM: the grid of each input, a power of two; 0 while not frozen.
        self.register_buffer("input_step", torch.zeros(len(bits)))
        self.register_buffer("peak", torch.zeros(len(bits)), persistent=False)
        self._integers: dict[str, Tensor] = {}

    @property
    def frozen(self) -> bool:
        return bool(self._integers)

    def top(self, i: int) -> int:
        """The largest multiple of input i's step."""
        return 2 ** (self.bits[i] - 1) - 1

    def take(self, *inputs: Tensor) -> list[Tensor]:
        """The inputs; frozen: float64, on their grids."""
        if self.observing:
            peaks = torch.stack([x.detach().abs().max() for x in inputs]).float()
            self.peak = torch.maximum(self.peak, peaks)
        if not self.frozen:
            return [x.float() for x in inputs]  # of one type, whatever autocast made
        return [
            snapped(x.float(), step, -self.top(i), self.top(i)).double()
            for i, (x, step) in enumerate(zip(inputs, self.input_step, strict=True))
        ]

    def freeze(self) -> None:
        tops = torch.tensor([self.top(i) for i in range(len(self.bits))])
        exponent = input_exponent(self.peak.cpu(), tops)
        self.load_integers({"input_exp": exponent, "widths": torch.tensor(self.bits)})

    def integers(self) -> dict[str, Tensor]:
        """input_exp (n,) int16: inputs in units of 2^input_exp. widths (n,) int16."""
        return {k: v.clone() for k, v in self._integers.items()}

    @torch.no_grad()
    def load_integers(self, integers: dict[str, Tensor]) -> None:
        kept = {k: integers[k].to(torch.int16) for k in ("input_exp", "widths")}
        same = all(bool((kept[k] == integers[k]).all()) for k in kept)
        shaped = all(v.shape == self.input_step.shape for v in kept.values())
        small = int(kept["input_exp"].int().abs().max()) <= 64
        widths = kept["widths"].tolist()
        if not (same and shaped and small and all(2 <= w <= 24 for w in widths)):
            raise ModelError(
                f"the integers of an exact layer with {len(self.bits)} inputs do not "
                "fit their widths; the weights file is damaged: get it again"
            )
        self.bits = tuple(widths)
        self.input_step.copy_(power_of_two(kept["input_exp"]))
        self._integers, self._carrier = kept, None
        self.carrier(self.input_step.device)  # refuses what float64 cannot hold

    @abc.abstractmethod
    def bound(self) -> float:
        """The largest possible partial sum, in units of what is summed."""

    def certificate(self, name: str = "") -> Certificate:
        limit = float(FLOAT64_LIMIT)
        return Certificate(name, self.bound(), "float64", limit, 0, max(self.bits))


def on_grid(x: Tensor, step: float | Tensor, top: int) -> Tensor:
    """Nearest multiples of the power of two ``step``, at most ``top`` of them."""
    return torch.floor(x * (1 / step) + 0.5).clamp(-top, top) * step
