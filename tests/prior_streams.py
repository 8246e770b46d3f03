# SPDX-License-Identifier: Apache-2.0
"""What the tests of priors share: random ones, symbols drawn from them, golden streams.

A pass is (symbols, prior) or (symbols, indexes, tables).
"""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from polycodec.cuda import (
    Categorical,
    Mixture,
    ScaleSet,
    StreamDecoder,
    StreamEncoder,
    TableSet,
)
from polycodec.cuda.host.library import SIMD, library
from polycodec.cuda.priors.integer_cdf import PRECISION
from polycodec.cuda.priors.mixture import MEAN_LIMIT

CASES = int(os.environ.get("POLYCODEC_TEST_CASES", "40"))
GOLDEN = json.loads(
    (pathlib.Path(__file__).parent / "golden" / "priors.json").read_text()
)
BEST = -1 if library() is None else library().best_simd
LEVELS = ("numpy", *SIMD[: BEST + 1])
every_level = pytest.mark.parametrize("simd", LEVELS)
property_test = settings(
    max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck)
)


def force(simd: str) -> str:
    """Make ``simd`` ("numpy" too) the one in use; returns the back end's name."""
    if simd == "numpy":
        return "numpy"
    os.environ["POLYCODEC_SIMD"] = simd
    return "native"


def random_scales(rng) -> ScaleSet:
    """A few scales of any size, or the 64 of a codec."""
    if rng.random() < 0.3:
        return ScaleSet.from_scales(np.exp(np.linspace(np.log(0.11), np.log(64), 64)))
    return ScaleSet.from_scales(np.exp(rng.uniform(-5, 5, rng.integers(1, 9))))


def random_weights(rng, components: int, n: int) -> np.ndarray:
    """(K, n), sums 256; zeros and a single component occur."""
    cuts = np.sort(rng.integers(0, 257, (components - 1, n)), axis=0)
    if rng.random() < 0.3:
        cuts = np.sort(rng.choice([0, 256], (components - 1, n)), axis=0)
    ends = np.concatenate([np.zeros((1, n), int), cuts, np.full((1, n), 256)])
    return np.diff(ends, axis=0)


def random_mixture(rng, n: int) -> Mixture:
    """Near means mostly; far ones and extreme ones too."""
    scales, components = random_scales(rng), int(rng.integers(1, 5))
    spread = rng.choice([10.0, 300.0, 20_000.0])
    means = np.rint(rng.normal(rng.normal(0, 1000), spread, (components, n)))
    if rng.random() < 0.2:
        means = rng.choice([-MEAN_LIMIT, MEAN_LIMIT, 0, 31, 32, 33], (components, n))
    indexes = rng.integers(0, len(scales), (components, n))
    means = np.clip(means, -MEAN_LIMIT, MEAN_LIMIT).astype(np.int32)
    return Mixture(scales, means, indexes, random_weights(rng, components, n))


def random_categorical(rng, n: int) -> Categorical:
    """Flat, peaked, extreme logits over alphabets of any size."""
    size = int(rng.choice([1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 257, 1024]))
    logits = np.rint(rng.normal(0, rng.choice([0, 20, 100, 3000]), (n, size)))
    return Categorical(np.clip(logits, -32768, 32767).astype(np.int64))


def random_prior(rng, n: int) -> Mixture | Categorical:
    return (random_mixture if rng.random() < 0.6 else random_categorical)(rng, n)


def draw(rng, prior: Mixture | Categorical) -> np.ndarray:
    """Symbols as their prior says, escapes as well, (n,) int32."""
    n = len(prior)
    slots = prior.expand(0, n)
    own = np.arange(n) << PRECISION
    edges = slots.starts + np.repeat(own, np.diff(slots.first))
    r = own + rng.integers(0, 1 << PRECISION, n)
    number = np.searchsorted(edges, r, "right") - 1 - slots.first[:-1]
    symbols = slots.base + number
    if slots.escape:
        rare = (number == 0) | (rng.random(n) < 0.02)
        symbols[rare] = rng.choice([-32768, 32767, 0, 5000], rare.sum())
    return prior.clamp(symbols)


def random_tables_pass(rng, n: int):
    pmf = rng.gamma(0.3, size=20) + 1e-6
    tables = TableSet.from_pmfs([pmf, pmf[:3]], [-9, 4], 12, [pmf.sum() / 20, None])
    indexes = rng.integers(0, 2, n).astype(np.uint8)
    return tables.clamp(rng.integers(-12, 14, n), indexes), indexes, tables


def golden_passes(case):
    passes = []
    for one in case["passes"]:
        symbols = np.array(one["symbols"], int)
        if "logits" in one:
            passes.append((symbols, Categorical(np.array(one["logits"], int))))
        elif "means" in one:
            scales = ScaleSet.from_arrays(GOLDEN["scales"])
            parts = (
                np.array(one[name], int) for name in ("means", "indexes", "weights")
            )
            passes.append((symbols, Mixture(scales, *parts)))
        else:
            tables = TableSet.from_arrays(GOLDEN["tables"])
            passes.append((symbols, np.array(one["indexes"], int), tables))
    return passes


def encode(passes, simd, **options) -> bytes:
    """Passes are (symbols, prior) or (symbols, indexes, tables)."""
    encoder = StreamEncoder(backend=force(simd))
    for symbols, *model in passes:
        put = encoder.put_prior if len(model) == 1 else encoder.put
        put(symbols, *model)
    return encoder.finish(**options)


def decode(data, passes, simd) -> list[np.ndarray]:
    decoder = StreamDecoder(data, backend=force(simd))
    out = []
    for _, *model in passes:
        get = decoder.get_prior if len(model) == 1 else decoder.get
        out.append(get(*model))
    decoder.finish()
    return out


def assert_all_alike(passes, levels=LEVELS, **options) -> bytes:
    """All ``levels`` write the first one's bytes and read the symbols back."""
    data = encode(passes, levels[0], **options)
    for simd in levels[1:]:
        assert encode(passes, simd, **options) == data, simd
    for simd in levels:
        for found, one in zip(decode(data, passes, simd), passes, strict=True):
            np.testing.assert_array_equal(found, one[0], simd)
    return data
