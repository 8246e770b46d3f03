# SPDX-License-Identifier: Apache-2.0
"""Rotary positions in two dimensions, from whole phases.

    pair t of the channels turns by   row · f_t + column · g_t
    frozen:  phase = (row · F_t + column · G_t) mod 2^16,   F = round(2^16 f / 2π)

    f_t = θ_row^(-2t / D),  g_t = θ_column^(-2t / D),  D channels, θ learned

cos and sin are whole multiples of 2^-12 from a table. A product of a float32 and a
table's entry is exact in float64, whatever multiplies and adds are fused.

Su et al. 2021 (arXiv 2104.09864); in two dimensions with learned bases: MLICv2, Jiang
et al. 2025 (arXiv 2504.19119).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.layer import (
    FLOAT64_LIMIT,
    Certificate,
    ExactLayer,
)
from polycodec.errors import ModelError

CIRCLE_BITS, ANGLE_BITS, COS_BITS = 16, 12, 12  # BITSTREAM
MOST = 1 << 30  # of row and column


@functools.cache
def cosine_table() -> np.ndarray:
    """4096 cos(2π i / 4096), rounded, for i = 0 … 4095, int64.

    By additions, multiplications and divisions of float64 alone, which are the same on
    every machine: Σ (-x²)^n / (2n)! over the first quarter.
    """
    quarter = 1 << ANGLE_BITS - 2
    x = np.arange(quarter + 1) * (3.141592653589793 / (2 * quarter))
    term, total = np.ones_like(x), np.ones_like(x)
    for n in range(1, 20):
        term = term * (x * x) / -((2.0 * n - 1) * (2 * n))
        total = total + term
    first = np.floor((1 << COS_BITS) * total + 0.5).astype(np.int64)
    half = np.concatenate([first, -first[-2::-1]])  # 0 … π
    return np.concatenate([half, half[-2:0:-1]])


class Rotary(ExactLayer):
    """Turns x (..., n, D) of positions (n,); ``channels``: D, even."""

    step: Tensor

    def __init__(self, channels: int, *, base: float = 10000.0) -> None:
        super().__init__()
        if channels % 2:
            raise ModelError(f"{channels} channels cannot turn in pairs; expected even")
        self.channels = channels
        self.base = nn.Parameter(torch.full((2,), base))
        # BITSTREAM: turns a position, in 2^-16; both -1 while not frozen.
        shape = (2, channels // 2)
        self.register_buffer("step", torch.full(shape, -1, dtype=torch.int64))

    @property
    def frozen(self) -> bool:
        return bool((self.step >= 0).all())

    def forward(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """rows, columns: (n,) int64 from 0 on."""
        places = torch.stack([rows, columns], 1)  # (n, 2)
        if self.frozen:
            phase = places[:, :1] * self.step[0] + places[:, 1:] * self.step[1]
            phase = phase & (1 << CIRCLE_BITS) - 1
            index = phase >> CIRCLE_BITS - ANGLE_BITS
            table = torch.from_numpy(cosine_table()).to(x.device)
            quarter = 1 << ANGLE_BITS - 2
            cos, sin = table[index], table[(index - quarter) & 4 * quarter - 1]
            cos, sin = (part.double() / (1 << COS_BITS) for part in (cos, sin))
            x = x.double()
        else:
            angle = places.float() @ self._frequencies()
            cos, sin = angle.cos(), angle.sin()
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
        return turned.flatten(-2).float()

    def _frequencies(self) -> Tensor:
        """Radians a position, (2, D / 2)."""
        t = torch.arange(0, self.channels, 2, device=self.base.device)
        return self.base.clamp_min(1.0)[:, None] ** (-t / self.channels)

    @torch.no_grad()
    def freeze(self) -> None:
        turns = self._frequencies().double() * 2.0**CIRCLE_BITS / (2 * math.pi)
        self.load_integers({"step_int": torch.round(turns).to(torch.int32)})

    def integers(self) -> dict[str, Tensor]:
        """step_int (2, D / 2) int32: turns a position, in 2^-16."""
        return {"step_int": self.step.to(torch.int32)}

    def load_integers(self, integers: dict[str, Tensor]) -> None:
        step = integers["step_int"].to(torch.int64)
        fits = step.shape == self.step.shape and int(step.min()) >= 0
        if not fits or int(step.max()) > 1 << CIRCLE_BITS:
            raise ModelError(
                "the phases of rotary positions do not fit; the weights file is "
                "damaged: get it again"
            )
        self.step.copy_(step)

    def certificate(self, name: str = "") -> Certificate:
        """Of a product: 24 bits of a float32, 13 of the table, and their sum."""
        bound = 2.0 ** (24 + COS_BITS + 1)
        return Certificate(
            name, bound, "float64", float(FLOAT64_LIMIT), COS_BITS + 1, 24
        )
