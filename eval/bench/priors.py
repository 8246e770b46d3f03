# SPDX-License-Identifier: Apache-2.0
"""The coder's benchmark, passes with priors: a distribution of its own for each symbol.

    gauss, means    one Gaussian with a fractional mean         about 3 bits
    mixture of 3    means apart by about a scale                about 3.3 bits
    logits 256      a softmax over 256 values, peaked           about 5 bits

Overhead is over -log2 of the probabilities before all rounding but that of the
parameters themselves (means in 1/64, weights in 1/256, scales in bins; logits not).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from polycodec.cuda import Categorical, Mixture, ScaleSet, shares
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_BINS, SCALE_MIN
from polycodec.eval.bench.others import Coder, range_coder

SCALE = 1.93  # median, as the tables' load of 3 bits
VALUES = 256
_REACH = 2000  # what constriction's Gaussians are cut at


@dataclass
class PriorLoad:
    """Symbols (n,) int32 and their prior; ideal: (n,) bits of each.

    pmf: (n, A), of a categorical load.
    """

    name: str
    symbols: np.ndarray
    prior: Mixture | Categorical
    ideal: np.ndarray
    pmf: np.ndarray | None = None
    is_prior = True

    def ideal_bytes(self) -> float:
        """Return what the distributions say, in bytes."""
        return float(self.ideal.sum()) / 8

    def put(self, encoder: Any) -> None:
        """Give the symbols to an encoder."""
        encoder.put_prior(self.symbols, self.prior)

    def get(self, decoder: Any) -> np.ndarray:
        """Have them back from a decoder."""
        return decoder.get_prior(self.prior)

    def cut(self, n: int) -> PriorLoad:
        """Return the load of the first ``n // 8`` symbols: what is slow is slower."""
        n, prior = max(n // 8, 1), self.prior
        if self.symbols.size <= n:
            return self
        part: Mixture | Categorical
        if isinstance(prior, Mixture):
            arrays = (prior.means, prior.indexes, np.asarray(prior.weights))
            part = Mixture(prior.scales, *(values[:, :n] for values in arrays))
        else:
            part = Categorical(prior.logits[:n])
        pmf = None if self.pmf is None else self.pmf[:n]
        return replace(
            self, symbols=self.symbols[:n], prior=part, ideal=self.ideal[:n], pmf=pmf
        )


def mixture_load(n: int, components: int) -> PriorLoad:
    """Draw a mixture of ``components`` Gaussians for each of ``n`` symbols."""
    rng = np.random.default_rng(components)
    bins = SCALE_MIN * np.exp(np.arange(SCALE_BINS) * LOG_STEP)
    wanted = math.log(SCALE) + rng.normal(0, 0.5, (components, n))
    index = np.rint((wanted - math.log(SCALE_MIN)) / LOG_STEP)
    index = np.clip(index, 0, SCALE_BINS - 1).astype(np.int64)
    means = rng.normal(0, 10, n) + rng.normal(0, SCALE, (components, n))
    means = np.rint(64 * means).astype(np.int32)
    logits = np.rint(rng.normal(0, 32, (n, components))).astype(np.int64)
    weights = shares(logits, 256).T
    own = (rng.random(n) * 256 >= np.cumsum(weights, axis=0)).sum(axis=0)
    at = (own, np.arange(n))
    symbols = np.rint(rng.normal(means[at] / 64, bins[index[at]])).astype(np.int32)
    far, spread = abs(symbols - means / 64), bins[index] * math.sqrt(2)
    # On the far side of the mean the complement keeps its digits.
    low, high = (
        torch.special.erfc(torch.from_numpy((far + d) / spread)).numpy()
        for d in (0.5, -0.5)
    )
    ideal = -np.log2((weights / 512 * (high - low)).sum(axis=0))
    name = "gauss, means" if components == 1 else f"mixture of {components}"
    prior = Mixture(ScaleSet.from_scales(bins), means, index, weights)
    return PriorLoad(name, symbols, prior, ideal)


def categorical_load(n: int, values: int = VALUES) -> PriorLoad:
    """Draw peaked softmax distributions over ``values`` and symbols from them."""
    rng = np.random.default_rng(values)
    logits = rng.normal(0, 3.5, (n, values))  # log2 of a probability
    pmf = np.exp2(logits)
    pmf /= pmf.sum(axis=1, keepdims=True)
    symbols = (pmf.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    symbols = np.minimum(symbols, values - 1).astype(np.int32)
    ideal = -np.log2(pmf[np.arange(n), symbols])
    prior = Categorical(np.rint(32 * logits).astype(np.int16))
    return PriorLoad(f"logits {values}", symbols, prior, ideal, pmf)


def prior_loads(n: int) -> list[PriorLoad]:
    """Return the loads; a softmax for each symbol is large, so there are fewer."""
    return [
        mixture_load(n, 1),
        mixture_load(n, 3),
        categorical_load(max(n // 16, 2)),
    ]


def installed_for_priors() -> dict[str, Callable[[PriorLoad], Coder | None]]:
    """Return other coders that take a distribution for each symbol."""
    if importlib.util.find_spec("constriction"):
        return {"constriction range": constriction_range}
    return {}


def constriction_range(load: PriorLoad) -> Coder | None:
    """Its range coder; it has no mixtures."""
    from constriction import stream

    prior = load.prior
    if isinstance(prior, Mixture):
        if prior.means.shape[0] > 1:
            return None
        bins = SCALE_MIN * np.exp(np.arange(SCALE_BINS) * LOG_STEP)
        model = stream.model.QuantizedGaussian(-_REACH, _REACH)
        parameters = [prior.means[0] / 64, bins[prior.indexes[0]]]
    else:
        model = stream.model.Categorical(perfect=False)
        parameters = [load.pmf]
    return range_coder(load.symbols, model, *parameters)
