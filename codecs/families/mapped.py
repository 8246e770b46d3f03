# SPDX-License-Identifier: Apache-2.0
"""Images in tokens whose places a map says: one map of the whole, codes by tiles.

    tiles ─ latents ─► activities of the picture ─(+ detail)─► map of a rate
    tile  ─ latents ─► codes under its part of the map

Shares of a rate are of the picture, so tiles of sky are coarse and tiles of leaves
fine, and codes are those of the picture in one piece. ``detail`` is a user's own wish:
where it is high codes are spent first, and as many in all.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.quantizers.base import MappedQuantizer
from polycodec.codecs.signals.tiles import TileEncoder


class MappedEncoder(TileEncoder):
    """As `TileEncoder`, with a map as the activities of the picture say."""

    def __init__(
        self,
        codec: Codec,
        quantizer: MappedQuantizer,
        pixels: np.ndarray,
        peak: int,
        tile: int,
        effort: int = 0,
    ) -> None:
        super().__init__(codec, pixels, peak, tile, effort)
        self.quantizer = quantizer
        self.detail: np.ndarray | None = None
        self._activity: Tensor | None = None  # that of the picture itself
        self._raised: Tensor | None = None  # with detail
        self._only: Tensor | None = None  # latents of a picture in one piece

    def wish(self, detail: np.ndarray) -> None:
        """See `ImageEncoder.wish`."""
        self.detail, self._raised = detail, None

    @torch.inference_mode()
    def heeded(self, quality: float) -> bool:
        """See `ImageEncoder.heeded`."""
        level = self.codec.level_of(quality)
        pair = self._measured(level), self.activity(level)
        plain, wished = (self.quantizer.allocate(one, int(level)) for one in pair)
        return not torch.equal(plain, wished)

    def latents(self, k: int, level: float) -> Tensor:
        """See `TileEncoder.latents`: no rate changes them."""
        if len(self.grid) > 1:
            return super().latents(k, level)
        if self._only is None:
            self._only = super().latents(k, level)
        return self._only

    @torch.inference_mode()
    def codes(self, k: int, level: float) -> Tensor:
        """See `TileEncoder.codes`."""
        rows, columns = self.grid.span(k).scaled(self.codec.stride).slices
        kind = self.quantizer.allocate(self.activity(level), int(level))
        part = kind[:, :, rows, columns]
        return self.quantizer.encode_mapped(self.latents(k, level), part)

    @torch.inference_mode()
    def activity(self, level: float) -> Tensor:
        """Activities (1, A, h, w) of the whole, raised where detail is wished for.

        Where nothing happens nothing is raised.
        """
        whole = self._measured(level)
        if self.detail is None:
            return whole
        if self._raised is None:
            self._raised = self._with_detail(whole)
        return self._raised

    def _measured(self, level: float) -> Tensor:
        """Activities of the picture, without any wish."""
        if self._activity is None:
            size = self.codec.grid((self.grid.height, self.grid.width))
            whole: Tensor | None = None
            for k in range(len(self.grid)):
                part = self.quantizer.activity(self.latents(k, level))
                if whole is None:
                    whole = part.new_zeros(1, part.shape[1], *size)
                rows, columns = self.grid.span(k).scaled(self.codec.stride).slices
                whole[:, :, rows, columns] = part
            assert whole is not None
            self._activity = whole
        return self._activity

    def _with_detail(self, activity: Tensor) -> Tensor:
        """Above all others where the picture's detail (H, W) is 1."""
        detail = torch.from_numpy(np.ascontiguousarray(self.detail)).float()
        detail = self.codec.padded(detail[None, None]).to(activity.device)
        h, w = activity.shape[2:]
        cells = F.adaptive_avg_pool2d(detail, (h, w))
        parts = F.adaptive_avg_pool2d(detail, (2 * h, 2 * w))
        wished = torch.cat([F.pixel_unshuffle(parts, 2), cells], 1)
        above = 1 + activity.max() - activity.min()
        return torch.where(activity == 0, activity, activity + above * wished)
