# SPDX-License-Identifier: Apache-2.0
"""A fitted network as numbers: how tensors are coded, and what a decoder makes of it.

    rest of the codes (1, n), after sizes and width       coded as
      how   (G,)  0: in steps; else a number of PACKED     a row      only if the
      bytes (P,)  of each tensor that is packed, FULL      a row      width is below 0
                  at most
      beyond (2 L,)  of the L that are FULL, the rest      a row      if L is above 0
                  in two digits, the high ones first
      k     (G - P,)  of the steps of the others           a tensor
      values of the others, whole numbers of steps         a tensor each
      bytes of the packed ones                             8 bits each

G are the tensors that are sent, all embeddings together one of them. A packed tensor is
what a quantizer of weights makes of it (`quantizers/weights`): it decodes to the same
numbers everywhere. Rows of several signals are filled up with zeros at their ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polycodec.codecs.fitting.quantized import groups, steps_of
from polycodec.codecs.packed import rows_of
from polycodec.codecs.transforms.network import Network
from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.models.weights import WeightsModel
from polycodec.errors import BitstreamError, ModelError
from polycodec.registry import build

PACKED = ("", "trellis", "lattice", "scalar")  # BITSTREAM: by number
FULL, DIGIT = 32767, 1 << 14  # BITSTREAM: the largest number of a row; a digit's base
MOST_BYTES, BESIDE = 8, 256  # of a packed value, and of a tensor beside its values
EMBEDDINGS = "embeddings"

# A tensor's codes (n,) in steps, or how it is packed and its bytes.
Part = Tensor | tuple[str, bytes]


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shapes of all that is sent by name, embeddings (N, …) last."""
    found = {name: tuple(p.shape) for name, p in network.sent().items()}
    if network.embedding_size is not None:
        found[EMBEDDINGS] = network.size[0], *network.embedding_size
    return found


def lengths(network: Network) -> list[list[int]]:
    """Numbers of values that share a density, of each of `shapes`."""
    own, each = network.lengths(), len(network.sent())
    rest = [own[each:]] if network.embedding_size is not None else []
    return [[one] for one in own[:each]] + rest


def code(
    entropy: WeightsModel,
    coder: Coder,
    rest: Tensor | None,
    network: Network,
    *,
    packed: bool,
    side: Tensor | None = None,
) -> Tensor:
    """Hand what stands after the width, (1, n), to a coder, or None to read it."""
    at, parts, sizes = 0, [], lengths(network)
    how, count = [0] * groups(network), 0

    def taken(n: int) -> Tensor | None:
        nonlocal at
        at += n
        return None if rest is None else rest[:, at - n : at]

    if packed:
        row = entropy.row(coder, taken(len(how)), len(how))
        how = [int(n) for n in row[0]]
        most = [MOST_BYTES * sum(own) + BESIDE for own in sizes]
        most = [n for n, one in zip(most, how, strict=True) if one]
        if not all(0 <= n < len(PACKED) for n in how) or not 0 < len(most) < len(how):
            raise BitstreamError(f"the stream packs tensors as {how}; it is damaged")
        row = torch.cat([row, entropy.row(coder, taken(len(most)), len(most))], dim=1)
        if large := 2 * int((row[0, len(how) :] == FULL).sum()):
            row = torch.cat([row, entropy.row(coder, taken(large), large)], dim=1)
        counts = _counts(row[0, len(how) :], len(most))
        if not all(0 <= n <= top for n, top in zip(counts, most, strict=True)):
            raise BitstreamError(
                f"the stream packs tensors in {counts} bytes, too many"
            )
        parts, count = [row], sum(counts)
    plain = [own for own, one in zip(sizes, how, strict=True) if not one]
    tensors = [len(plain), *(n for own in plain for n in own)]
    value = taken(sum(tensors))
    value = None if value is None else value[None]
    parts.append(entropy.code(coder, value, (1, *tensors), z=side)[0])
    if count:
        parts.append(entropy.octets(coder, taken(count), count))
    return torch.cat(parts, dim=1)


def row_of(k: Tensor, parts: Sequence[Part]) -> Tensor:
    """What stands after the width, (n,), of one part for each of `shapes`."""
    plain = [part for part in parts if isinstance(part, Tensor)]
    packed = [part for part in parts if isinstance(part, tuple)]
    if not packed:
        return torch.cat([k, *plain])
    how = [PACKED.index(p[0]) if isinstance(p, tuple) else 0 for p in parts]
    kept = k[torch.tensor(how, device=k.device) == 0]
    sizes = [len(data) for _, data in packed]
    large = [divmod(n - FULL, DIGIT) for n in sizes if n >= FULL]
    numbers = how + [min(n, FULL) for n in sizes]
    numbers += [n for digit in zip(*large, strict=True) for n in digit]
    octets = np.frombuffer(b"".join(data for _, data in packed), np.uint8)
    head, tail = torch.tensor(numbers), torch.from_numpy(octets.astype(np.float32))
    return torch.cat([head.to(k), kept, *plain, tail.to(k)])


def opened(network: Network, rest: Tensor, *, packed: bool) -> dict[str, Tensor]:
    """Tensors of `shapes` by name, of what stands after the width, (n,)."""
    wanted = shapes(network)
    how, at = [0] * len(wanted), 0
    counts: list[int] = []
    if packed:
        how = [int(n) for n in rest[: len(how)]]
        tensors = sum(map(bool, how))
        counts = _counts(rest[len(how) :], tensors)
        first = rest[len(how) : len(how) + tensors]
        at = len(how) + tensors + 2 * int((first == FULL).sum())
    steps = iter(steps_of(rest[at : at + how.count(0)]))
    at += how.count(0)
    each = zip(wanted.values(), how, strict=True)
    plain = sum(math.prod(shape) for shape, one in each if not one)
    octets = rest[at + plain : at + plain + sum(counts)].cpu().numpy().astype(np.uint8)
    data, found, left = octets.tobytes(), {}, iter(counts)
    for (name, shape), one in zip(wanted.items(), how, strict=True):
        if one:
            size = next(left)
            found[name] = _unpacked(PACKED[one], data[:size], shape).to(rest)
            data = data[size:]
        else:
            values = rest[at : at + math.prod(shape)]
            found[name] = (values * next(steps)).view(shape)
            at += len(values)
    return found


def _counts(numbers: Tensor, tensors: int) -> list[int]:
    """Bytes of packed tensors, of the numbers (n,) that say them and others behind."""
    counts = [int(n) for n in numbers[:tensors]]
    large = [k for k, n in enumerate(counts) if n == FULL]
    digits = numbers[tensors : tensors + 2 * len(large)].view(2, len(large))
    for k, high, low in zip(large, *digits.tolist(), strict=True):
        counts[k] += DIGIT * int(high) + int(low)
    return counts


def together(rows: Iterable[Tensor]) -> Tensor:
    """Rows (1, 1, n) of signals as one tensor (B, 1, n of the longest)."""
    return pad_sequence([row[0, 0] for row in rows], batch_first=True)[:, None]


def _unpacked(how: str, data: bytes, shape: tuple[int, ...]) -> Tensor:
    rows = rows_of(shape)
    size = rows, math.prod(shape) // rows
    try:
        found = build(f"weights/{how}").decode(data, size)
    except ModelError as error:
        raise BitstreamError(f"a tensor of the stream is damaged; {error}") from error
    return torch.from_numpy(found).float().view(shape)
