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
from torch import Tensor

from polycodec.codecs.signals.grid import Span
from polycodec.codecs.signals.tiles import ImageDecoder, ImageEncoder, to_pixels

Size = tuple[int, int]  # height and width
Samples = tuple[int, int]  # the largest one, and how many a pixel has


@torch.inference_mode()
def encode(encoders: Sequence[ImageEncoder], quality: float) -> list[list[bytes]]:
    """The chunks of each image, and its encoder's ``estimated_bits``."""
    done: dict[int, list[bytes]] = {}
    batches: dict[Hashable, list[tuple[int, Tensor, bytes]]] = defaultdict(list)
    for k, one in enumerate(encoders):
        item = one.item(quality)
        if item is None:
            done[k] = list(one.chunks(quality))
        else:
            batches[one.codec, item[0].shape].append((k, *item))
    for batch in batches.values():
        numbers, inputs, contexts = zip(*batch, strict=True)
        first = encoders[numbers[0]]
        codec, plan = first.codec, first.plan
        level = codec.level_of(quality)
        codes = codec.encode_codes(torch.cat(inputs), level, plan=plan)
        coded = codec.write(codes, level, context=contexts)
        every = zip(numbers, coded.data, coded.estimated_bits, strict=True)
        for k, data, bits in every:
            done[k], encoders[k].estimated_bits = [data], bits
    return [done[k] for k in range(len(encoders))]


@torch.inference_mode()
def decode(
    decoders: Sequence[ImageDecoder], sizes: Sequence[Size], samples: Sequence[Samples]
) -> list[np.ndarray]:
    """The pixels of each whole image; CodecError when one stream is invalid."""
    done: dict[int, np.ndarray] = {}
    batches: dict[Hashable, list[tuple[int, ImageDecoder]]] = defaultdict(list)
    for k, one in enumerate(decoders):
        if not one.whole:
            done[k] = one.render(Span(0, 0, *sizes[k]), *samples[k])
        else:
            shape = one.codec.grid(sizes[k])
            batches[one.codec, shape, one.quality].append((k, one))
    for batch in batches.values():
        first = batch[0][1]
        codec, level = first.codec, first.codec.level_of(first.quality)
        shape = codec.grid(sizes[batch[0][0]])
        contexts = [one.grid.context(0, one.quality, *samples[k]) for k, one in batch]
        data = [one.read_chunk(0) for _, one in batch]
        codes = codec.read(data, level, shape, context=contexts)
        x_hat = codec.decode_codes(codes, level)
        for (k, _), x in zip(batch, x_hat.split(1), strict=True):
            height, width = sizes[k]
            done[k] = to_pixels(x[..., :height, :width], *samples[k])
    return [done[k] for k in range(len(decoders))]
