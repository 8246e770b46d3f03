# SPDX-License-Identifier: Apache-2.0
"""Where a file of image tokens spends its codes: its map, as numbers and as a picture.

    map_of("photo.plc").numbers()    shares of area, codes of each cell, row by row
                       .picture()    black where it is coarse, white where it is fine

Of codecs whose quantizer has a map (`MappedQuantizer`); only the map's own weights are
needed of them, but all are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.kinds import words_of
from polycodec.codecs.files.options import TokenOptions, options_of
from polycodec.codecs.files.sources import Source, name_of, opened, seekable
from polycodec.codecs.files.tokens.image import codec_in, read
from polycodec.codecs.quantizers.base import MappedQuantizer
from polycodec.errors import UsageError


@dataclass(frozen=True)
class Map:
    """``codes``: (h, w), how many codes each cell of ``cell`` pixels a side has;
    ``parts``: (k h, k w) in 0 … 1, how fine each part of it is; ``size``: (H, W)."""

    codes: np.ndarray
    parts: np.ndarray
    cell: int
    size: tuple[int, int]

    def numbers(self) -> dict[str, Any]:
        """Plain values: cells, mean codes, shares of area, codes of every cell."""
        kinds, counts = np.unique(self.parts, return_counts=True)
        named = {0.0: "coarse", 0.5: "medium", 1.0: "fine"}
        found = dict(
            zip(kinds.tolist(), (counts / self.parts.size).tolist(), strict=True)
        )
        return {
            "cell": self.cell,
            "rows": self.codes.shape[0],
            "columns": self.codes.shape[1],
            "codes_a_cell": round(float(self.codes.mean()), 4),
            **{name: round(found.get(kind, 0.0), 4) for kind, name in named.items()},
            "codes": self.codes.tolist(),
        }

    def picture(self) -> np.ndarray:
        """(H, W) uint8, of the picture's size: 0 coarse, 255 fine."""
        side = self.cell * self.codes.shape[0] // self.parts.shape[0]
        gray = np.rint(255 * self.parts).astype(np.uint8)
        whole: np.ndarray = gray.repeat(side, 0).repeat(side, 1)
        return whole[: self.size[0], : self.size[1]]


def map_of(input: Source, codec: Codec | None = None, **options: Any) -> Map:
    """The map of a .plc file of image tokens; UsageError where there is none."""
    chosen = options_of(TokenOptions, options)
    with opened(seekable(input)) as stream:
        reader = Reader(stream)
        if (kind := reader.header.kind) != "image":
            raise UsageError(
                f"{name_of(input)} holds {words_of(kind)}; maps are of one image of "
                "tokens; leave --map out"
            )
        made = codec_in(reader, chosen, codec)
        quantizer = made.quantizer
        if not isinstance(quantizer, MappedQuantizer):
            raise UsageError(
                f"{name_of(input)} is of '{made.name}', which has no map of detail; "
                "expected one of a codec such as image/granular; leave --map out"
            )
        tokens, _ = read(reader, chosen, made)
    codes = torch.from_numpy(tokens.codes.astype(np.int64))[None]
    counts = quantizer.sent(codes)[0, 1:].sum(0)
    parts = quantizer.fineness(codes[:, :1])[0, 0]
    size = tokens.height, tokens.width
    return Map(counts.numpy(), parts.numpy(), made.stride, size)
