# SPDX-License-Identifier: Apache-2.0
"""What all models of token sequences share.

    codes (B, l, F)   l levels of F positions, l <= L;  level i counts to sizes[i]

    fit(codes)               statistics of training sequences, kept as integers
    code(coder, codes)       the one procedure: estimates, encodes or decodes
    bits(codes)              what the integer tables say it costs

Every model has order-0 tables: how often each token of a level was seen. Tokens are
those of a quantizer (`codecs/quantizers`): any number of them, a power of two or not.
Images have codes (B, l, H, W); positions are then taken row by row.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Coder, EntropyModel, Shape
from polycodec.entropy_models.coders import RateEstimator
from polycodec.errors import InputError, ModelError

PRECISION = 15  # BITSTREAM: of order-0 tables
LARGEST = 1 << 13  # with more tokens, frequencies of at least 1 in 2^15 cost too much
HELD_OUT = 12  # of so many training sequences, one is not learned from
UNSEEN = 0.5  # counts that a token has before any was seen
UNFITTED = "this token model has no tables; fit it, or call update()"


class TokenModel(EntropyModel):
    """Base of `entropy/tokens-*`; ``sizes``: number of tokens of each level.

    ``alike``: a number 0, 1 … for each level; levels of equal numbers share one
    codebook, and its statistics. None: each has its own.
    """

    largest = LARGEST
    codes = "tokens"
    host = True

    def __init__(
        self, sizes: Sequence[int], alike: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        self.alike = tuple(range(len(self.sizes)) if alike is None else alike)
        wrong = [size for size in self.sizes if not 1 <= size <= self.largest]
        if wrong or not self.sizes:
            raise ModelError(
                f"codebooks of {list(self.sizes)} tokens; expected one level or more "
                f"of 1 to {self.largest} tokens: split larger ones into levels"
            )
        pairs = set(zip(self.alike, self.sizes, strict=False))
        numbers = sorted(number for number, _ in pairs)
        if len(self.alike) != len(self.sizes) or numbers != list(range(len(pairs))):
            raise ModelError(
                f"alike is {list(self.alike)}; expected a number 0, 1 … for each of "
                f"{len(self.sizes)} levels, equal ones for codebooks of equal sizes"
            )

    def update(self) -> None:
        """Build uniform tables if the model was not fitted: log2 K bits a token."""
        if not self.tables:
            self.tables = {"order0": _order0([np.ones(n) for n in self._kinds])}

    @property
    def order0(self) -> TableSet:
        """How often each token was seen, a table for each codebook (``alike``)."""
        table = self.table("order0")
        if table is None:
            raise ModelError(UNFITTED)
        return table

    def fit(
        self,
        codes: Sequence[np.ndarray],
        *,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Count tokens of training sequences, (L, F) integers each.

        ``progress(step, bits a token)``: told by models that learn in steps.
        """
        self.tables = {"order0": _order0(self.counts(codes))}

    def counts(self, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """How often each token of each codebook occurs, plus UNSEEN."""
        checked = self.sequences(codes)
        counts = [np.full(size, UNSEEN) for size in self._kinds]
        for level, kind in enumerate(self.alike):
            size = self.sizes[level]
            counts[kind] += sum(
                np.bincount(one[level], minlength=size) for one in checked
            )
        return counts

    @property
    def _kinds(self) -> list[int]:
        """The number of tokens of each codebook."""
        return [
            size for _, size in sorted(set(zip(self.alike, self.sizes, strict=True)))
        ]

    def sequences(self, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Training sequences as checked (L, F) int64 arrays; InputError otherwise.

        Those of images may have (L, h, w): positions are taken row by row.
        """
        arrays = [np.asarray(one) for one in codes]
        for one in arrays:
            whole = one.dtype.kind in "iu"
            if one.ndim < 2 or one.shape[0] != len(self.sizes) or not whole:
                raise InputError(
                    f"a training sequence is {one.dtype} of shape {one.shape}; "
                    f"expected integers of ({len(self.sizes)}, positions)"
                )
            self.check(torch.from_numpy(one.astype(np.int64))[None])
        if not any(one.size for one in arrays):
            raise InputError("no training tokens; expected (L, F) arrays with some")
        return [one.astype(np.int64).reshape(len(one), -1) for one in arrays]

    @staticmethod
    def apart(sequences: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Sequences to learn from, and every twelfth, which is held out, if any is."""
        kept = sequences[HELD_OUT - 1 :: HELD_OUT]
        learned = [s for i, s in enumerate(sequences) if (i + 1) % HELD_OUT]
        return learned, kept or sequences

    def check(self, codes: Tensor) -> None:
        """InputError that names a token outside its codebook or a level too many."""
        self.check_shape(tuple(codes.shape))
        for level, plane in enumerate(codes.unbind(1)):
            if plane.numel() == 0:
                continue
            low, high = int(plane.min()), int(plane.max())
            if low < 0 or high >= self.sizes[level]:
                raise InputError(
                    f"level {level} has tokens {low}..{high}; expected 0.."
                    f"{self.sizes[level] - 1}; they belong to other weights"
                )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """InputError unless ``shape`` is (B, l, positions...) with l <= L."""
        if len(shape) < 3 or not 1 <= shape[1] <= len(self.sizes):
            raise InputError(
                f"tokens have shape {shape}; expected (batch, 1 to {len(self.sizes)} "
                "levels, positions)"
            )

    def code(self, coder: Coder, y: Tensor | None, size: Shape, **_: Any) -> Tensor:
        """Code tokens y (B, l, *S), or decode them when None; returns them, int64.

        size: (B, l, *S), since the number of levels l is the rate.
        """
        codes, shape = y, size
        self._checked(codes, shape)
        flat = (shape[0], shape[1], int(np.prod(shape[2:])))
        given = None if codes is None else codes.detach().cpu().reshape(flat)
        return self.code_sequence(coder, given, flat).to(torch.int64).reshape(shape)

    def _checked(self, codes: Tensor | None, shape: Shape) -> None:
        """InputError for what cannot be coded, ModelError before there are tables."""
        self.check_shape(shape)
        if codes is not None:
            self.check(codes)
        if not self.tables:
            raise ModelError(UNFITTED)

    @abc.abstractmethod
    def code_sequence(
        self, coder: Coder, codes: Tensor | None, shape: tuple[int, int, int]
    ) -> Tensor:
        """The procedure itself, for checked codes (B, l, F)."""

    @torch.no_grad()
    def bits(self, codes: Tensor) -> Tensor:
        """Bits of each item of codes (B, l, F) by the integer tables, (B,) float32."""
        coder = RateEstimator(codes.shape[0], noise=False)
        self.code(coder, codes, tuple(codes.shape))
        return coder.bits


def _order0(counts: Sequence[np.ndarray]) -> TableSet:
    return TableSet.from_pmfs(counts, [0] * len(counts), PRECISION)
