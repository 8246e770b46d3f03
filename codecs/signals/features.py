# SPDX-License-Identifier: Apache-2.0
"""Pictures for a network that reads features: of one size, coded once, never shown.

    picture ─ shorter side to `resize` ─ middle `size` x `size` ─ (x - mean) / std

What comes back is what the task's network makes of the features, (B, classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.signals.base import Size
from polycodec.codecs.signals.image import ImageSignal
from polycodec.errors import BitstreamError, ModelError, TruncatedError
from polycodec.registry import register

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec


@register("signal/features")
class FeatureSignal(ImageSignal):
    """RGB pictures, brought to ``size`` x ``size`` pixels.

    ``resize``: the shorter side before the middle is cut out, ``size`` unless told;
    ``mean`` and ``std``: of each channel, what networks are used to.
    """

    kind = "features"
    carries = ()
    head_size = 1

    def __init__(
        self,
        *,
        size: int = 224,
        resize: int | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        self.resize = size if resize is None else resize
        if not 8 <= size <= self.resize <= 4096:
            raise ModelError(
                f"size is {size} and resize {self.resize}; expected 8 to 4096 pixels, "
                "resize not below size"
            )
        self.size, self.mean, self.std = size, tuple(mean), tuple(std)

    def checked(self, x: Any) -> Tensor:
        """See `Signal.checked`; pictures of any size, brought to this one."""
        return self.brought(super().checked(x))

    def brought(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, size, size) of pictures (B, 3, H, W)."""
        height, width = x.shape[2:]
        if (height, width) == (self.size, self.size) and self.resize == self.size:
            return x
        scale = self.resize / min(height, width)
        to = [max(self.size, round(scale * n)) for n in (height, width)]
        x = F.interpolate(x, to, mode="bilinear", antialias=True, align_corners=False)
        top, left = ((n - self.size) // 2 for n in to)
        x = x[:, :, top : top + self.size, left : left + self.size]
        return x.clamp(self.low, self.high)

    def prepared(self, x: Tensor) -> Tensor:
        """As the network is used to them, channels last."""
        mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    def restored(self, x_hat: Tensor) -> Tensor:
        """What the network answers, float32."""
        return x_hat.float()

    def cut(self, x_hat: Tensor, size: Sequence[int]) -> Tensor:
        """The same: answers have no sides."""
        return x_hat

    def head(self, size: Sequence[int], quality: float, level: float) -> bytes:
        return bytes([int(level)])  # BITSTREAM

    def parse(self, data: bytes) -> tuple[Size, int]:
        if not data:
            raise TruncatedError("compressed features have no bytes; expected some")
        return (self.size, self.size), data[0]

    def level_in(self, codec: Codec, stored: int) -> float:
        """See :meth:`Signal.level_in`: the level itself is stored."""
        if not 1 <= stored <= codec.levels:
            raise BitstreamError(
                f"the features are of level {stored}; expected 1 to {codec.levels}; a "
                ".plc file is for polycodec.classify"
            )
        return stored
