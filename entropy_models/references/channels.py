# SPDX-License-Identifier: Apache-2.0
"""Channel context: convolutions of the slices before, as MLIC++ and ELIC have it.

    earlier slices ─ conv3 ─ σ ─ conv3 ─ σ ─ conv3 ─ features           σ: hard swish

Minnen, Singh 2020 (arXiv 2007.08739); the widths are those of MLIC++ (Jiang, Wang 2023,
arXiv 2307.15421).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.references.base import Reference, State
from polycodec.registry import register


@register("reference/channels")
class ChannelReference(Reference):
    """``widths``: of the layers, the result's last; ``kernel``: of all of them."""

    once = True

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        widths: Sequence[int] = (192, 128, 128),
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.width = widths[-1]
        sizes = zip((before, *widths[:-1]), widths, strict=True)
        self.layers = nn.ModuleList(ExactConv2d(a, b, kernel) for a, b in sizes)

    def before(self, state: State) -> Tensor:
        x = state.before
        for i, layer in enumerate(self.layers):
            x = layer(hard_swish(x) if i else x)
        return x
