# SPDX-License-Identifier: Apache-2.0
"""What the coder's benchmark codes: symbols, and what their model says about them.

    gauss B bit     zero-mean Gaussians of 64 scales, by tables     B bits a symbol
    shared 1024     codes of one codebook, by one table             about 9 bits
    gauss, means    one Gaussian with a fractional mean each        about 3 bits
    mixture of 3    means apart by about a scale                    about 3.3 bits
    logits 256      a softmax over 256 values each, peaked          about 5 bits

The ideal is -log2 of the probabilities before all rounding but that of the parameters
themselves (means in 1/64, weights in 1/256, scales in bins; logits not).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polycodec.cuda import Categorical, Mixture, ScaleSet, TableSet, shares
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_BINS, SCALE_MIN
from polycodec.entropy_models.priors.tables import gaussian_tables

REACH = 127  # symbols of the tables' Gaussians: tables of 256 slots, one word each
# Median scale that gives about so many bits a symbol, with scales spread around it.
GAUSSIANS = {0.85: 0.361, 3.0: 1.93, 5.0: 7.7}
BINS = SCALE_MIN * np.exp(np.arange(SCALE_BINS) * LOG_STEP)
VALUES = 256


@dataclass
class Load:
    """Symbols (n,) int32, the ideal bits (n,) of each, and what a pass is given.

    indexes: (n,) uint8 of the tables, where the pass has tables. gaussian: means and
    deviations (n,), and what values are cut at; or pmf: (K,) of the one distribution of
    all symbols, (n, K) of one for each; neither: other coders have no such model.
    """

    name: str
    symbols: np.ndarray
    bits: np.ndarray
    given: TableSet | Mixture | Categorical
    indexes: np.ndarray | None = None
    gaussian: tuple[np.ndarray, np.ndarray, int] | None = None
    pmf: np.ndarray | None = None

    @property
    def is_prior(self) -> bool:
        """Whether each symbol has a distribution of its own."""
        return self.indexes is None

    def put(self, encoder: Any) -> None:
        """Give the symbols to an encoder."""
        if isinstance(self.given, TableSet):
            encoder.put(self.symbols, self.indexes, self.given)
        else:
            encoder.put_prior(self.symbols, self.given)

    def get(self, decoder: Any) -> np.ndarray:
        """Have them back from a decoder."""
        if isinstance(self.given, TableSet):
            return decoder.get(self.indexes, self.given)
        return decoder.get_prior(self.given)

    def ideal_bytes(self) -> float:
        """Return what the model says, in bytes."""
        return float(self.bits.sum()) / 8


def tabled(name: str, values: np.ndarray, indexes: np.ndarray) -> Load:
    """Return a load of values (n,) near Gaussians of the bins ``indexes`` (n,)."""
    tables, scales = _tables(), BINS[indexes]
    symbols = tables.clamp(np.clip(np.rint(values), -REACH, REACH), indexes)
    zeros = np.zeros_like(scales)
    bits = _bits(symbols, zeros, scales)
    return Load(name, symbols, bits, tables, indexes, (zeros, scales, REACH))


def gaussian_load(bits: float, n: int) -> Load:
    """Draw a load of about ``bits`` (a key of GAUSSIANS) a symbol."""
    rng = np.random.default_rng(round(100 * bits))
    indexes = _indexes(rng, GAUSSIANS[bits], (n,))
    return tabled(f"gauss {bits:g} bit", rng.normal(0, BINS[indexes]), indexes)


def shared_load(n: int, size: int = 1024) -> Load:
    """Draw codes of one codebook with a Zipf-like distribution."""
    rng = np.random.default_rng(size)
    pmf = 1 / (np.arange(size) + 30.0)
    pmf = rng.permutation(pmf / pmf.sum())
    tables = TableSet.from_pmfs([pmf], [0], 14, None)
    symbols = rng.choice(size, n, p=pmf).astype(np.int32)
    bits, zeros = -np.log2(pmf[symbols]), np.zeros(n, np.uint8)
    return Load(f"shared {size}", symbols, bits, tables, zeros, pmf=pmf)


def mixture_load(components: int, n: int) -> Load:
    """Draw a mixture of ``components`` Gaussians for each of ``n`` symbols."""
    rng = np.random.default_rng(components)
    index = _indexes(rng, GAUSSIANS[3.0], (components, n)).astype(np.int64)
    means = rng.normal(0, 10, n) + rng.normal(0, GAUSSIANS[3.0], (components, n))
    means = np.rint(64 * means).astype(np.int32)
    logits = np.rint(rng.normal(0, 32, (n, components))).astype(np.int64)
    weights = shares(logits, 256).T
    own = (rng.random(n) * 256 >= np.cumsum(weights, axis=0)).sum(axis=0)
    at = (own, np.arange(n))
    symbols = np.rint(rng.normal(means[at] / 64, BINS[index[at]])).astype(np.int32)
    bits = _bits(symbols, means / 64, BINS[index], weights / 256)
    prior = Mixture(ScaleSet.from_scales(BINS), means, index, weights)
    if components > 1:
        return Load(f"mixture of {components}", symbols, bits, prior)
    gaussian = (means[0] / 64, BINS[index[0]], 2000)
    return Load("gauss, means", symbols, bits, prior, gaussian=gaussian)


def categorical_load(n: int) -> Load:
    """Draw peaked softmax distributions, and symbols from them: large, so n / 16."""
    rng = np.random.default_rng(VALUES)
    n = max(n // 16, 2)
    logits = rng.normal(0, 3.5, (n, VALUES))  # log2 of a probability
    pmf = np.exp2(logits)
    pmf /= pmf.sum(axis=1, keepdims=True)
    symbols = (pmf.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    symbols = np.minimum(symbols, VALUES - 1).astype(np.int32)
    bits = -np.log2(pmf[np.arange(n), symbols])
    prior = Categorical(np.rint(32 * logits).astype(np.int16))
    return Load(f"logits {VALUES}", symbols, bits, prior, pmf=pmf)


LOADS: tuple[Callable[[int], Load], ...] = (
    *(functools.partial(gaussian_load, bits) for bits in GAUSSIANS),
    shared_load,
    functools.partial(mixture_load, 1),
    functools.partial(mixture_load, 3),
    categorical_load,
)


@functools.cache
def _tables() -> TableSet:
    return gaussian_tables(reach=REACH)


def _indexes(
    rng: np.random.Generator, median: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Draw bins of scales spread around a median."""
    wanted = math.log(median) + rng.normal(0, 0.5, shape)
    index = np.rint((wanted - math.log(SCALE_MIN)) / LOG_STEP)
    return np.clip(index, 0, SCALE_BINS - 1).astype(np.uint8)


def _bits(
    symbols: np.ndarray,
    means: np.ndarray,
    scales: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """-log2 of the mass of symbols (n,) in Gaussians (n,) or their mixtures (K, n)."""
    far, spread = abs(symbols - means), scales * math.sqrt(2)
    # On the far side of the mean the complement keeps its digits.
    low, high = (
        torch.special.erfc(torch.from_numpy((far + d) / spread)).numpy()
        for d in (0.5, -0.5)
    )
    mass = (high - low) / 2 if weights is None else weights * (high - low) / 2
    if weights is not None:
        mass = mass.sum(axis=0)
    return -np.log2(np.maximum(mass, 1e-300))
