# SPDX-License-Identifier: Apache-2.0
"""What a signal is to a codec: shapes, padding, pieces with their surroundings, bytes.

    checked(x)     samples that are fit to be coded, float32
    pad, cut       to whole positions of the latents' grid, and back
    encode, decode whole signals through a codec, in the pieces that files use
    head, parse    what stands before a compressed signal's stream

Signals know no family: they call a codec's alphabet (`codecs/base.py`) only.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from polycodec.errors import BitstreamError, InputError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

Size = tuple[int, ...]
SLACK = 1e-3  # beyond the range, for what a rounding did


class Signal(abc.ABC):
    """Base of `signal/*`; S are the sizes of a signal, (H, W) or (T,).

    ``kind``: what files call it, ``carries``: other kinds whose files are made of such
    signals (`Codec.group_encoder`). ``low`` and ``high``: the range of samples;
    ``whole``: a type of whole numbers for it, ``full`` of them a 1. ``shape``: of a
    batch, in words. ``head_size``: bytes of `head`.
    """

    kind: ClassVar[str]
    carries: ClassVar[tuple[str, ...]] = ()
    low: ClassVar[float]
    high: ClassVar[float]
    whole: ClassVar[torch.dtype]
    full: ClassVar[int]
    shape: ClassVar[tuple[str | int, ...]]
    head_size: ClassVar[int]

    def checked(self, x: Any) -> Tensor:
        """The signal (B, C, *S), float32, of a batch or of one without its first axis.

        Whole numbers of the type ``whole`` are brought to the range. InputError for
        what is no tensor, has another shape or type, is NaN, or beyond the range.
        """
        wanted = f"({', '.join(map(str, self.shape))})"
        if not isinstance(x, Tensor) or x.is_meta or x.layout != torch.strided:
            odd = "tensor that is sparse or meta"
            found = odd if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"the signal is a {found}; expected a tensor {wanted}; "
                "polycodec.encode takes files"
            )
        batch = x[None] if x.ndim == len(self.shape) - 1 else x
        if batch.ndim != len(self.shape) or batch.shape[1] != self.shape[1]:
            raise InputError(
                f"the signal has shape {tuple(x.shape)}; expected {wanted}"
            )
        if x.dtype == self.whole:
            batch = batch / self.full
        if not batch.is_floating_point() or batch.numel() == 0:
            raise InputError(
                f"the signal has {batch.numel()} samples of {x.dtype}; expected some, "
                f"of floating point or {self.whole}"
            )
        batch = batch.detach().float()
        low, high = float(batch.amin()), float(batch.amax())
        if not self.low - SLACK <= low <= high <= self.high + SLACK:
            found = f"samples from {low:g} to {high:g}" if low == low else "NaN samples"
            raise InputError(
                f"the signal has {found}; expected {self.low:g} … {self.high:g}; scale "
                "or clamp them"
            )
        return batch

    @abc.abstractmethod
    def pad(self, x: Tensor, stride: int) -> Tensor:
        """The signal, longer at its ends: all sizes are multiples of ``stride``."""

    def cut(self, x_hat: Tensor, size: Sequence[int]) -> Tensor:
        """The first ``size`` samples along each axis, clamped to the range."""
        first: tuple[Any, ...] = (..., *(slice(n) for n in size))
        return x_hat[first].clamp(self.low, self.high)

    def prepared(self, x: Tensor) -> Tensor:
        """Samples as transforms want them."""
        return x

    def restored(self, x_hat: Tensor) -> Tensor:
        """The reverse of :meth:`prepared`, float32."""
        return x_hat

    def encode(self, codec: Codec, x: Tensor, level: float) -> Tensor:
        """Codes of checked signals x, as files hold them; each as a whole here."""
        return codec.quantize(codec.latents_of(codec.padded(x), level), level)

    def decode(self, codec: Codec, codes: Tensor, level: float) -> Tensor:
        """Signals of codes, not cut."""
        return codec.signals(codec.dequantize(codes, level), level)

    @abc.abstractmethod
    def head(self, size: Sequence[int], quality: float, level: float) -> bytes:
        """What a compressed signal begins with: its size and its rate.  # BITSTREAM"""

    @abc.abstractmethod
    def parse(self, data: bytes) -> tuple[Size, int]:
        """Size and stored rate of a compressed signal; BitstreamError for others."""

    @abc.abstractmethod
    def level_in(self, codec: Codec, stored: int) -> float:
        """The level that a stored rate stands for; BitstreamError if there is none."""


def strings_of(data: bytes | Sequence[bytes]) -> list[bytes]:
    """Compressed signals as a list; errors for none, and for what are no bytes."""
    kinds = (bytes, bytearray, memoryview)
    one = isinstance(data, kinds) or not isinstance(data, Iterable)
    items: list[Any] = [data] if one else list(data)
    if not items:
        raise BitstreamError("there is no signal to decompress; expected some")
    for item in items:
        if not isinstance(item, kinds):
            raise InputError(
                f"cannot decompress a {type(item).__name__}; expected bytes, as "
                "compress gives them; polycodec.decode takes files"
            )
    return [bytes(item) for item in items]
