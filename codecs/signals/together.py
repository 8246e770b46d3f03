# SPDX-License-Identifier: Apache-2.0
"""Many small images at once: those of one padded size are one batch.

    chunks = encode(encoders, quality)     of each image, its chunks
    pixels = decode(decoders, ...)         of each image, (H, W, 1 or 3) integers

What a batch cannot hold (images in tiles, searches, codecs with a way of their own into
chunks) is done one by one; the streams are the same either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import torch

from polycodec.codecs.signals.tiles import (
    ImageDecoder,
    ImageEncoder,
    Span,
    TileDecoder,
    TileEncoder,
    to_pixels,
    to_tensor,
)

Size = tuple[int, int]  # height and width
Samples = tuple[int, int]  # the largest one, and how many a pixel has


@torch.inference_mode()
def encode(encoders: Sequence[ImageEncoder], quality: float) -> list[list[bytes]]:
    """The chunks of each image, and its encoder's ``estimated_bits``."""
    done: dict[int, list[bytes]] = {}
    batches: dict[Hashable, list[tuple[int, TileEncoder]]] = defaultdict(list)
    for k, one in enumerate(encoders):
        if not isinstance(one, TileEncoder) or one.effort or len(one.grid) > 1:
            done[k] = list(one.chunks(quality))
        else:
            shape = one.codec.grid((one.grid.height, one.grid.width))
            batches[one.codec, shape].append((k, one))
    for batch in batches.values():
        codec = batch[0][1].codec
        level = codec.level_of(quality)
        inputs = [to_tensor(one.pixels, one.peak, codec.device) for _, one in batch]
        x = torch.cat([codec.padded(item) for item in inputs])
        contexts = [
            one.grid.context(0, quality, one.peak, one.pixels.shape[2])
            for _, one in batch
        ]
        coded = codec.write(codec.encode_codes(x, level), level, context=contexts)
        every = zip(batch, coded.data, coded.estimated_bits, strict=True)
        for (k, one), data, bits in every:
            done[k], one.estimated_bits = [data], bits
    return [done[k] for k in range(len(encoders))]


@torch.inference_mode()
def decode(
    decoders: Sequence[ImageDecoder], sizes: Sequence[Size], samples: Sequence[Samples]
) -> list[np.ndarray]:
    """The pixels of each whole image; CodecError when one stream is invalid."""
    done: dict[int, np.ndarray] = {}
    batches: dict[Hashable, list[tuple[int, TileDecoder]]] = defaultdict(list)
    for k, one in enumerate(decoders):
        if not isinstance(one, TileDecoder) or len(one.grid) > 1:
            done[k] = one.render(Span(0, 0, *sizes[k]), *samples[k])
        else:
            shape = one.codec.grid(sizes[k])
            batches[one.codec, shape, one.quality].append((k, one))
    for batch in batches.values():
        first = batch[0][1]
        codec, level = first.codec, first.level
        shape = codec.grid(sizes[batch[0][0]])
        contexts = [one.grid.context(0, one.quality, *samples[k]) for k, one in batch]
        data = [one.read_chunk(0) for _, one in batch]
        codes = codec.read(data, level, shape, context=contexts)
        x_hat = codec.decode_codes(codes, level)
        for (k, _), x in zip(batch, x_hat.split(1), strict=True):
            height, width = sizes[k]
            done[k] = to_pixels(x[..., :height, :width], *samples[k])
    return [done[k] for k in range(len(decoders))]
