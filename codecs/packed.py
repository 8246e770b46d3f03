# SPDX-License-Identifier: Apache-2.0
"""Tensors as few bytes: the coded part of a weights file.

    "coded" (n,) uint8     the tensors' bytes, one after the other
    entries                name -> how, type, shape, bytes[, largest integer]

    how    a quantizer of weights by name     numbers that may be approximated
           plain                              deflated, exactly
           same                               those of the base

With a base, what is coded is the difference from what the base says (`Predicted`).
Whoever decodes gets the same numbers on every machine: quantizers promise it, and sums
and roundings of float64 are the same everywhere.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.quantizers.weights.base import Choice, WeightQuantizer
from polycodec.cuda.host import threads
from polycodec.errors import ModelError, UnknownNameError
from polycodec.registry import build

PLAIN, SAME = "plain", "same"
TYPES = {
    str(t).removeprefix("torch."): t
    for t in (
        *(torch.float16, torch.float32, torch.float64, torch.bool, torch.uint8),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
    )
}
_AXES = 8

# Of a tensor's name, and the tensors before it: what is expected of it, or None.
Predicted = Callable[[str, Mapping[str, Tensor]], Tensor | None]


def matrix(values: Tensor) -> np.ndarray:
    """Return a tensor as the (R, C) float64 that quantizers take; rows are outputs."""
    wide = values.detach().cpu().double()
    return wide.reshape(rows_of(values.shape), -1).numpy()


def pack(
    tensors: Mapping[str, Tensor],
    plan: Mapping[str, Choice],
    predicted: Predicted,
    memo: dict[tuple[str, Choice], bytes],
) -> tuple[Tensor, dict[str, list[Any]]]:
    """Return the coded bytes (n,) uint8 and the entries of tensors.

    Those that ``plan`` does not name are kept exactly; what others are predicted from
    comes before them. memo: keeps what was coded, for
    other plans of the same tensors.
    """
    parts, entries = [], {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        kind, shape = str(value.dtype).removeprefix("torch."), list(value.shape)
        guess = predicted(name, tensors)
        more: list[Any] = []
        if name in plan:
            how, key = plan[name].how, (name, plan[name])
            if key not in memo:
                rest = beyond(value, guess)
                memo[key] = _quantizer(how).encode(rest, plan[name].setting)
            data = memo[key]
            if not value.is_floating_point():
                more = [int(value.abs().max())]
        elif is_same(value, guess):
            how, data = SAME, b""
        else:
            how, data = PLAIN, zlib.compress(value.numpy().tobytes(), 9)
        entries[name] = [how, kind, shape, len(data), *more]
        parts.append(data)
    whole = np.frombuffer(b"".join(parts), np.uint8)
    return torch.from_numpy(whole.copy()), entries


def unpack(
    coded: Tensor, entries: Any, predicted: Predicted, most: int
) -> dict[str, Tensor]:
    """Return the tensors by name; ModelError for what `pack` does not write.

    most: numbers that all of them may have together; nothing is allocated for more.
    """
    checked = _checked(entries, most)
    if coded.dtype != torch.uint8 or coded.numel() != sum(e.bytes for e in checked):
        raise _wrong(f"{coded.numel()} numbers of {coded.dtype} for coded tensors")
    data, at = coded.numpy().tobytes(), 0
    pieces = []
    for entry in checked:
        pieces.append(data[at : at + entry.bytes])
        at += entry.bytes
    found: dict[str, Tensor] = {}
    with ThreadPoolExecutor(threads.count()) as pool:
        for entry, w in zip(checked, pool.map(_numbers, checked, pieces), strict=True):
            with _named(entry):
                found[entry.name] = _predicted(entry, w, predicted, found)
    return found


@dataclass(frozen=True)
class _Entry:
    name: str
    how: str
    type: torch.dtype
    shape: tuple[int, ...]
    bytes: int
    top: int

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=object))


def _checked(entries: Any, most: int) -> list[_Entry]:
    if not isinstance(entries, dict):
        raise _wrong("no list of coded tensors")
    found = []
    for name, row in entries.items():
        fits = isinstance(row, list) and len(row) in (4, 5)
        fits = fits and isinstance(row[0], str) and str(row[1]) in TYPES
        fits = fits and isinstance(row[2], list) and len(row[2]) <= _AXES
        numbers = [*row[2], *row[3:]] if fits else [-1]
        if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise _wrong(f"'{name[:80]}' is {str(row)[:80]}")
        top = row[4] if len(row) == 5 else 0
        entry = _Entry(name, row[0], TYPES[row[1]], tuple(row[2]), row[3], top)
        most -= entry.count
        if most < 0:
            raise _wrong(f"'{name[:80]}' has {entry.count} numbers, too many")
        found.append(entry)
    return found


def beyond(value: Tensor, guess: Tensor | None) -> np.ndarray:
    """Return what of a tensor a base does not foretell, as `matrix`."""
    if guess is None:
        return matrix(value)
    if guess.shape != value.shape:
        raise ModelError(
            f"the base has a tensor of {tuple(guess.shape)} where these weights have "
            f"one of {tuple(value.shape)}; name a base of the same config"
        )
    exact = not value.is_floating_point()
    return matrix(value) - matrix(_likely(guess, int(value.abs().max()), exact))


def is_same(value: Tensor, guess: Tensor | None) -> bool:
    """Whether a tensor is what a base foretells, in its own type."""
    if guess is None or guess.shape != value.shape:
        return False
    return bool((guess.to(value.dtype) == value).all())


def _likely(guess: Tensor, top: int, exact: bool) -> Tensor:
    """What a base foretells, without rows of integers that cannot be meant.

    top: the largest magnitude. The grid of a row that has become small is a fine one,
    in which the base's row is far too large: such rows are foretold as zeros.
    """
    if not exact or not guess.numel():
        return guess
    rows = guess.double().reshape(rows_of(guess.shape), -1)
    far = rows.abs().amax(1, keepdim=True) > 2 * top
    return rows.masked_fill(far, 0.0).reshape(guess.shape)


def said_count(about: Any) -> int:
    """Return how many numbers a packed file says that it has, right or wrong."""
    entries = about.get("tensors") if isinstance(about, dict) else None
    rows = entries.values() if isinstance(entries, dict) else ()
    shapes = [row[2] for row in rows if isinstance(row, list) and len(row) > 2]
    return sum(
        math.prod(shape)
        for shape in shapes
        if isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    )


@contextlib.contextmanager
def _named(entry: _Entry) -> Iterator[None]:
    """Name the tensor that an error is about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"tensor '{entry.name}': {error}") from error


def _numbers(entry: _Entry, data: bytes) -> Tensor | None:
    """What a tensor's own bytes say; None: it is what the base says."""
    if entry.how == SAME:
        return None
    with _named(entry):
        if entry.how == PLAIN:
            wanted = entry.count * torch.empty(0, dtype=entry.type).element_size()
            return torch.frombuffer(
                bytearray(_inflated(data, wanted)) or bytearray(8), dtype=entry.type
            )[: entry.count].reshape(entry.shape)
        if not entry.count:
            raise _wrong(f"a coded tensor of shape {entry.shape}")
        rows = rows_of(entry.shape)
        w = _quantizer(entry.how).decode(data, (rows, entry.count // rows))
        return torch.from_numpy(w).reshape(entry.shape)


def _predicted(
    entry: _Entry,
    w: Tensor | None,
    predicted: Predicted,
    found: Mapping[str, Tensor],
) -> Tensor:
    """A tensor of its numbers, and of what the base says."""
    if entry.how == PLAIN and w is not None:
        return w
    guess = predicted(entry.name, found)
    if guess is not None and guess.shape != entry.shape:
        raise _wrong(f"the base has {tuple(guess.shape)}, expected {entry.shape}")
    if w is None:
        if guess is None:
            raise _wrong("there is no base to take it from")
        return guess.to(entry.type)
    if guess is not None:
        exact = not entry.type.is_floating_point
        w = w + _likely(guess, entry.top, exact).double()
    if entry.type.is_floating_point:
        return w.float()
    limits = torch.iinfo(entry.type)
    top = min(entry.top, limits.max, 1 << 52)
    return torch.floor(w + 0.5).clamp(-top, top).to(entry.type)


def _inflated(data: bytes, size: int) -> bytes:
    """Bytes of a deflated tensor of ``size`` bytes; never more than that."""
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(data, size + 1)
    except zlib.error as error:
        raise _wrong(str(error)) from error
    if len(found) != size or not reader.eof or reader.unused_data:
        raise _wrong(f"{len(found)} bytes of a tensor, expected {size}")
    return found


def rows_of(shape: Sequence[int]) -> int:
    """How many outputs a tensor has."""
    return int(shape[0]) if len(shape) > 1 else 1


def _quantizer(how: str) -> WeightQuantizer:
    try:
        found: WeightQuantizer = build(f"weights/{how}")
    except (UnknownNameError, ModelError) as error:
        raise ModelError(f"coded in a way that is not known here; {error}") from error
    return found


def _wrong(what: str) -> ModelError:
    return ModelError(f"coded tensors are damaged; {what}; get the file again")
