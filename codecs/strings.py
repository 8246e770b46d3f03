# SPDX-License-Identifier: Apache-2.0
"""Signals in memory as byte strings: what is behind `Codec.compress` and its reverse.

    string   head of the signal (sizes, rate) │ stream, sealed with the head

Strings of one head are decoded together; those of others come back in a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from polycodec.codecs.signals.base import Size, strings_of
from polycodec.codecs.transforms import numbers

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec
    from polycodec.codecs.fitting.plan import Plan

Strings = bytes | Sequence[bytes]


def compressed(codec: Codec, x: Any, quality: float, plan: Plan | None) -> list[bytes]:
    """Byte strings of signals; see `Codec.compress`."""
    if isinstance(x, (list, tuple)):
        return [item for one in x for item in compressed(codec, one, quality, plan)]
    quality = round(100 * numbers.check_quality(quality)) / 100  # as headers say it
    level = codec.level_of(quality)
    x = codec.signal.checked(x)
    codes = codec._encode(x, level, plan)
    head = codec.signal.head(x.shape[2:], quality, level)
    return [head + item for item in codec.write(codes, level, context=head).data]


def decompressed(codec: Codec, data: Strings) -> Any:
    """Signals of byte strings; see `Codec.decompress`."""
    return _made(codec, data, lambda own: codec.decode_codes(*own))


def latents(codec: Codec, data: Strings, dequantized: bool) -> Any:
    """Latents of byte strings; see `Codec.latents`."""
    return _made(
        codec, data, lambda own: handed_out(codec, own.codes, own.level, dequantized)
    )


def handed_out(codec: Codec, codes: Tensor, level: float, dequantized: bool) -> Tensor:
    """Codes as `Codec.latents` gives them; ``dequantized``: ẑ of them."""
    if dequantized:
        return codec.dequantize(codes, level)
    whole = codec.entropy is not None and codec.entropy.whole
    return codes.int() if whole else codes


class Read(NamedTuple):
    """Codes (B, C, *S) of strings that have one head, and what it says."""

    codes: Tensor
    level: float
    size: Size


def _made(codec: Codec, data: Strings, make: Callable[[Read], Tensor]) -> Any:
    """What is made of all strings, in their order: a tensor, or a list of them."""
    items = strings_of(data)
    found: dict[int, Tensor] = {}
    for places, own in _read(codec, items):
        found |= zip(places, make(own).split(1), strict=True)
    in_order = [found[k] for k in range(len(items))]
    if len({one.shape for one in in_order}) == 1:
        return torch.cat(in_order)
    return in_order


def _read(codec: Codec, items: Sequence[bytes]) -> Iterator[tuple[list[int], Read]]:
    """Places of the strings of each head, and their codes."""
    signal = codec.signal
    for head in dict.fromkeys(item[: signal.head_size] for item in items):
        places = [k for k, s in enumerate(items) if s[: signal.head_size] == head]
        size, value = signal.parse(items[places[0]])
        level = signal.level_in(codec, value)
        streams = [items[k][signal.head_size :] for k in places]
        codes = codec.read(streams, level, codec.grid(size), context=head)
        yield places, Read(codes, level, size)
