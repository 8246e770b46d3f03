# SPDX-License-Identifier: Apache-2.0
"""NeRV and NeRV++: a frame of its number.

    k ─ γ(k/N) ─ MLP ─► (width, H/Πs, W/Πs) ─ block s₁ ─ … ─ block s_n ─ conv ─► frame

Chen et al. 2021, "NeRV: Neural representations for videos" (arXiv 2110.13903). With
``block: scrb`` it is NeRV++ as its paper draws it, with ``gcnn`` as its authors
released it: a gated stem and a head of 1 × 1 (Ghorbel, Hamidouche, Morin 2024,
arXiv 2402.18305). Left out: NeRV's option of a stem without a hidden layer, and the
coding of an update θ* - θ that NeRV++'s figure shows and its code has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.network import Network, Size
from polycodec.codecs.transforms.positions import encoded_times
from polycodec.codecs.transforms.video.blocks import block_of
from polycodec.errors import ModelError
from polycodec.registry import register

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "gelu": nn.GELU}


class GatedStem(nn.Module):
    """Linear to twice the hidden width, x · GELU(z), Linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, 2 * hidden)
        self.outer = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.inner(x).chunk(2, dim=1)
        return self.outer(value * F.gelu(gate, approximate="tanh"))


@register("network/nerv")
class Nerv(Network):
    """Frames of their numbers.

    ``width``: channels of the stem's map. ``block``: nerv, scrb (NeRV++) or gcnn.
    ``strides``: of the blocks; their product divides H and W. ``stem``: hidden width of
    the MLP. ``expansion``: channels of the first block over ``width``; later ones halve
    them down to ``least``. ``base`` and ``levels``: of the positional encoding.
    """

    kind = "video"
    times: Tensor

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int = 26,
        *,
        block: str = "nerv",
        strides: Sequence[int] = (5, 2, 2, 2, 2),
        stem: int = 512,
        expansion: int = 1,
        least: int = 96,
        base: float = 1.25,
        levels: int = 40,
        act: str = "silu",
    ) -> None:
        super().__init__(size, channels, width)
        if block not in ("nerv", "scrb", "gcnn") or act not in ACTIVATIONS:
            raise ModelError(
                f"block is '{block}' and act '{act}'; expected nerv, scrb or gcnn, and "
                f"{' or '.join(ACTIVATIONS)}"
            )
        frames, height, width_ = size
        step = prod(strides)
        self.map = (width, -(-height // step), -(-width_ // step))
        self.register_buffer(
            "times", encoded_times(frames, base, levels), persistent=False
        )
        inputs, outputs = 2 * levels, prod(self.map)
        if block == "gcnn":
            self.stem: nn.Module = GatedStem(inputs, stem, outputs)
        else:
            layers = [nn.Linear(inputs, stem), ACTIVATIONS[act]()]
            layers += [nn.Linear(stem, outputs), ACTIVATIONS[act]()]
            self.stem = nn.Sequential(*layers)
        now, self.blocks = width, nn.ModuleList()
        for k, stride in enumerate(strides):
            wide = width * expansion if k == 0 else max(now // 2, least)
            self.blocks.append(block_of(block, now, wide, stride, ACTIVATIONS[act]()))
            now = wide
        kernel = 3 if block == "scrb" else 1
        self.head = nn.Conv2d(now, channels, kernel, padding=kernel // 2)

    def forward(self, at: Tensor, embedding: Tensor | None = None) -> Tensor:
        x = self.stem(self.times[at]).view(-1, *self.map)
        for block in self.blocks:
            x = block(x)
        return (self.head(x).tanh() + 1) / 2
