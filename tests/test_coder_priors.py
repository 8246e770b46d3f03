# SPDX-License-Identifier: Apache-2.0
"""Priors beside tables: the integers, the bytes on every back end, the errors.

NumPy = portable C++ = AVX2 = AVX-512, each forced by name.
POLYCODEC_TEST_CASES=1000 runs more random cases.
"""

from __future__ import annotations

import json
import math
import os
import pathlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polycodec.cuda import (
    Categorical,
    Mixture,
    ScaleSet,
    StreamDecoder,
    StreamEncoder,
    TableSet,
    crc32c,
    native,
    shares,
)
from polycodec.cuda.categorical import POWERS
from polycodec.cuda.integer_cdf import PRECISION, WHOLE, estimate
from polycodec.cuda.mixture import MEAN_LIMIT, phi_table
from polycodec.errors import BitstreamError, InputError, ModelError, TruncatedError

CASES = int(os.environ.get("POLYCODEC_TEST_CASES", "40"))
GOLDEN = json.loads(
    (pathlib.Path(__file__).parent / "golden" / "priors.json").read_text()
)
BEST = -1 if native.library() is None else native.library().best_simd
LEVELS = ("numpy", *native.SIMD[: BEST + 1])
every_level = pytest.mark.parametrize("simd", LEVELS)
property_test = settings(
    max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def _no_settings():
    """Tests set these as they go (hypothesis forbids monkeypatch); all are put back."""
    names = ("POLYCODEC_SIMD", "POLYCODEC_THREADS", "POLYCODEC_CODER")
    before = {name: os.environ.pop(name, None) for name in names}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


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


# ---- the integers


def test_constants_are_what_the_formulas_say_and_never_change():
    x = np.arange(-576, 577) / 128
    exact = np.array([32767.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    assert abs(phi_table() - exact).max() <= 0.5 + 1e-6
    assert (np.diff(phi_table().astype(int)) >= 0).all()
    assert crc32c(phi_table().astype("<u2").tobytes()) == GOLDEN["phi"]
    assert POWERS.tolist() == [round(2 ** (18 - f / 32)) for f in range(32)]


def test_scales_are_rounded_as_documented():
    sigma = np.array([0.11, 1.0, 64.0, 500.0])
    scales = ScaleSet.from_scales(sigma)
    np.testing.assert_array_equal(scales.reciprocal, np.rint(2**21 / sigma))
    far = scales.reach / 64 / sigma
    assert (far > 3).all() and (far < 6).all()
    again = ScaleSet.from_arrays(scales.to_arrays())
    assert again.fingerprint() == scales.fingerprint()
    other = ScaleSet(scales.reciprocal, scales.reach + 1)
    assert other.fingerprint() != scales.fingerprint()
    for bad in ([], [0.0], [np.nan], [1e-9], [[1.0]], [1e9]):
        with pytest.raises(ModelError):
            ScaleSet.from_scales(bad)
    for arrays in ({}, {"reciprocal": [0], "reach": [0]}, {"reciprocal": [1] * 300}):
        with pytest.raises(ModelError):
            ScaleSet.from_arrays({"reach": [5] * 300, **arrays} if arrays else {})


@property_test
@given(seed=st.integers(0, 2**32 - 1))
def test_every_slot_has_a_frequency_and_all_together_are_everything(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, 5)
    slots = prior.expand(0, 5)
    assert (slots.freqs >= 1).all()
    sums = np.add.reduceat(slots.freqs, slots.first[:-1])
    assert (sums == WHOLE).all()
    # An encoder computes two edges and must find those of the whole row.
    symbols = draw(rng, prior)
    found = prior.intervals(symbols)
    number = np.where(found.escaped, 0, symbols - slots.base)
    row = slots.first[:-1] + number
    np.testing.assert_array_equal(found.starts, slots.starts[row])
    np.testing.assert_array_equal(found.freqs, slots.freqs[row])


def test_windows_hold_what_every_component_reaches():
    rng = np.random.default_rng(7)
    for _ in range(20):
        mixture = random_mixture(rng, 50)
        first, bits = mixture.window()
        last = first + (1 << bits) - 2
        reach = mixture.scales.reach[mixture.indexes] / 64
        low = np.where(mixture.weights > 0, mixture.means / 64 - reach, np.inf)
        high = np.where(mixture.weights > 0, mixture.means / 64 + reach, -np.inf)
        fits = bits < 12
        assert (first <= low.min(axis=0) + 0.5)[fits].all()
        assert (last >= high.max(axis=0) - 0.5)[fits].all()


def test_shares_are_in_proportion():
    logits = np.array([[0, -32, -64], [5, 5, 5], [0, -30_000, -30_000]])
    np.testing.assert_array_equal(
        shares(logits, 256), [[145, 73, 38], [85, 85, 86], [254, 1, 1]]
    )


def test_estimates_are_near_the_logarithm():
    freqs = np.arange(1, WHOLE + 1)
    exact = 256 * (PRECISION - np.log2(freqs))
    assert abs(estimate(freqs) - exact).max() < 4.5
    assert estimate(np.array([WHOLE])) == 0


# ---- the same bytes


@property_test
@given(
    seed=st.integers(0, 2**32 - 1),
    lanes=st.sampled_from([None, 0, 1, 2, 4, 8, 16, 32]),
    chunks=st.sampled_from([None, 1, 2, 3, 5]),
    crc=st.sampled_from(["none", "stream", "chunk"]),
)
def test_random_streams_are_the_same_everywhere(seed, lanes, chunks, crc):
    rng = np.random.default_rng(seed)
    passes = []
    for n in rng.integers(0, 150, rng.integers(1, 4)).tolist():
        if rng.random() < 0.3:
            passes.append(random_tables_pass(rng, n))
        else:
            prior = random_prior(rng, n)
            passes.append((draw(rng, prior), prior))
    chunks = 1 if lanes == 0 else chunks
    assert_all_alike(passes, lanes=lanes, chunks=chunks, crc=crc)


@pytest.mark.parametrize("lanes", [0, 1, 2, 4, 8, 16, 32])
def test_every_lane_count_with_partial_steps(lanes):
    rng = np.random.default_rng(lanes)
    for n in {1, max(lanes, 1), 5 * lanes + max(lanes - 1, 1)}:
        for make in (random_mixture, random_categorical):
            prior = make(rng, n)
            passes = [(draw(rng, prior), prior)] * 2
            assert_all_alike(passes, lanes=lanes)


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_long_passes_with_threads(chunks, monkeypatch):
    monkeypatch.setattr(native.threads, "for_symbols", lambda n: 2)
    rng = np.random.default_rng(chunks)
    mixture, categorical = random_mixture(rng, 700), random_categorical(rng, 300)
    passes = [(draw(rng, mixture), mixture), (draw(rng, categorical), categorical)]
    assert_all_alike(passes, lanes=32, chunks=chunks)


def test_a_prior_is_a_table_for_each_symbol():
    rng = np.random.default_rng(5)
    for make in (random_mixture, random_categorical):
        prior = make(rng, 40)
        symbols, slots = draw(rng, prior), prior.expand(0, 40)
        freqs, sizes, minimum = slots.freqs, np.diff(slots.first), slots.base + 1
        if not slots.escape:  # a slot 0 that is never hit
            freqs = np.insert(freqs, slots.first[:-1], 0)
            sizes, minimum = sizes + 1, slots.base
        tables = TableSet(PRECISION, sizes, minimum, freqs)
        data = encode([(symbols, np.arange(40), tables)], "numpy", lanes=4)
        assert encode([(symbols, prior)], LEVELS[-1], lanes=4) == data


def golden_passes(case):
    passes = []
    for one in case["passes"]:
        symbols = np.array(one["symbols"], int)
        if "logits" in one:
            passes.append((symbols, Categorical(np.array(one["logits"], int))))
        elif "means" in one:
            scales = ScaleSet.from_arrays(GOLDEN["scales"])
            parts = (np.array(one[name], int) for name in ("means", "indexes", "weights"))
            passes.append((symbols, Mixture(scales, *parts)))
        else:
            tables = TableSet.from_arrays(GOLDEN["tables"])
            passes.append((symbols, np.array(one["indexes"], int), tables))
    return passes


@every_level
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_streams(simd, case):
    passes = golden_passes(case)
    options = {name: case[name] for name in ("lanes", "chunks", "crc")}
    data = bytes.fromhex(case["hex"])
    assert encode(passes, simd, **options) == data
    for found, one in zip(decode(data, passes, simd), passes, strict=True):
        np.testing.assert_array_equal(found, one[0])


# ---- what it costs


def mixture_load(rng, n: int, components: int, scale: float):
    """A mixture with scales around ``scale``; symbols drawn from it in floats."""
    bins = np.exp(np.linspace(np.log(0.11), np.log(64), 64))
    near = np.log(scale) + rng.normal(0, 0.5, (components, n))
    indexes = abs(np.log(bins)[:, None, None] - near).argmin(axis=0)
    means = rng.normal(0, scale, (components, n)) + rng.normal(0, 9, n)
    weights = shares(np.rint(rng.normal(0, 32, (n, components))).astype(int), 256).T
    means = np.rint(64 * means).astype(int)
    own = (rng.random(n) * 256 >= np.cumsum(weights, axis=0)).sum(axis=0)
    at = (own, np.arange(n))
    values = np.rint(rng.normal(means[at] / 64, bins[indexes[at]])).astype(int)
    from_mean, spread = abs(values - means / 64), bins[indexes] * math.sqrt(2)
    erfc = np.vectorize(math.erfc)
    tails = erfc((from_mean - 0.5) / spread) - erfc((from_mean + 0.5) / spread)
    ideal = -np.log2((weights / 512 * tails).sum(axis=0)).sum()
    mixture = Mixture(ScaleSet.from_scales(bins), means, indexes, weights)
    return values, mixture, ideal


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("scale", [0.36, 1.93, 7.7])
def test_mixtures_cost_little_over_the_ideal(components, scale):
    rng = np.random.default_rng(components)
    values, mixture, ideal = mixture_load(rng, 8000, components, scale)
    assert mixture.bits(values) <= 1.0015 * ideal
    data = encode([(values, mixture)], LEVELS[-1], lanes=0)
    assert len(data) <= mixture.bits(values) / 8 + 4


@pytest.mark.parametrize("size", [16, 256])
def test_categorical_costs_little_over_the_ideal(size):
    rng = np.random.default_rng(size)
    p = rng.gamma(0.3, size=(3000, size)) + 1e-9
    p /= p.sum(axis=1, keepdims=True)
    logits = np.maximum(np.rint(32 * np.log2(p)), -32768).astype(int)
    values = (p.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)
    ideal = -np.log2(p[np.arange(3000), values]).sum()
    prior = Categorical(logits)
    assert prior.bits(values) <= ideal * 1.001 + 3000 * 1.6 * size / WHOLE


# ---- what can be wrong


@every_level
def test_symbols_that_cannot_be_coded_are_named(simd):
    scales = ScaleSet.from_scales([1.0])
    mixture = Mixture(scales, np.zeros((1, 50), int), np.zeros((1, 50), int))
    categorical = Categorical(np.zeros((50, 3), int))
    for prior, wrong in [
        *((mixture, v) for v in (32768, -32769, 2**30)),
        *((categorical, v) for v in (3, -1, 2**30)),
    ]:
        symbols = np.zeros(50, int)
        symbols[41] = wrong
        with pytest.raises(InputError, match=f"symbol {wrong} at 41"):
            StreamEncoder(backend=force(simd)).put_prior(symbols, prior)
        assert prior.clamp(symbols)[41] != wrong
    for n in (49, 51):
        with pytest.raises(InputError, match=f"{n} symbols"):
            StreamEncoder(backend=force(simd)).put_prior(np.zeros(n, int), mixture)


def test_parameters_that_make_no_distribution_are_refused():
    scales = ScaleSet.from_scales([1.0, 2.0])
    means, indexes = np.zeros((2, 3), int), np.ones((2, 3), int)
    half = np.full((2, 3), 128)
    Mixture(scales, means, indexes, half)
    for parts in [
        (means, indexes, None),
        (means, indexes, half + 1),
        (means, indexes, half * [[3], [-1]]),
        (means, indexes + 1, half),
        (means, indexes - 2, half),
        (means + MEAN_LIMIT + 1, indexes, half),
        (means + 0.5, indexes, half),
        (means[:, :2], indexes, half),
        (means[0], indexes[0], half[0]),
        (np.zeros((5, 3), int), np.zeros((5, 3), int), np.full((5, 3), 51)),
    ]:
        with pytest.raises(InputError):
            Mixture(scales, *parts)
    for logits in (np.zeros((3, 0), int), np.zeros((1, 4097), int), np.zeros(3, int)):
        with pytest.raises(InputError):
            Categorical(logits)
    for logits in (np.zeros((3, 2)), np.full((1, 2), 32768)):
        with pytest.raises(InputError):
            Categorical(logits)


def outcome(data: bytes, passes, simd) -> object:
    """Return what decoding gives: the symbols, or the error's class."""
    try:
        return [found.tolist() for found in decode(data, passes, simd)]
    except BitstreamError as error:
        return type(error).__name__


@property_test
@given(
    seed=st.integers(0, 9),
    cut=st.integers(0, 12),
    flips=st.lists(st.integers(0, 2**30), max_size=3),
)
def test_damage_gives_the_same_symbols_or_an_error(seed, cut, flips):
    rng = np.random.default_rng(seed)
    priors = [random_mixture(rng, 90), random_categorical(rng, 60)]
    passes = [(draw(rng, prior), prior) for prior in priors]
    options = {"lanes": [8, 0, 32, 2][seed % 4], "chunks": [1, 1, 2][seed % 3]}
    options["chunks"] = options["chunks"] if options["lanes"] else 1
    whole = encode(passes, LEVELS[-1], **options)
    data = bytearray(whole[: max(len(whole) - cut, 1)])
    for bit in flips:
        data[bit // 8 % len(data)] ^= 1 << bit % 8
    outcomes = [outcome(bytes(data), passes, simd) for simd in LEVELS]
    assert all(one == outcomes[0] for one in outcomes), outcomes


@every_level
def test_words_and_escapes_that_run_out_are_named(simd):
    scales = ScaleSet.from_scales([2.0])
    mixture = Mixture(scales, np.zeros((1, 320), int), np.zeros((1, 320), int))
    symbols = np.where(np.arange(320) % 3, 0, 999)
    data = encode([(symbols, mixture)], simd, lanes=16)
    for name, what in [("word_end", "words"), ("side_end", "escapes")]:
        decoder = StreamDecoder(data, backend=force(simd))
        getattr(decoder._lanes, name)[0] -= 1
        with pytest.raises(TruncatedError, match=what):
            decoder.get_prior(mixture)
    with pytest.raises(BitstreamError, match="limit"):
        StreamDecoder(data, max_symbols=319).get_prior(mixture)


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    mixture, categorical = random_mixture(rng, 30), random_categorical(rng, 30)
    parts = (mixture.means, mixture.indexes, mixture.weights)
    same = Mixture(mixture.scales, *map(torch.from_numpy, parts))
    also = Categorical(torch.from_numpy(categorical.logits))
    passes = [(draw(rng, mixture), mixture), (draw(rng, categorical), categorical)]
    tensors = [(torch.from_numpy(passes[0][0]), same), (passes[1][0], also)]
    assert encode(passes, LEVELS[-1]) == encode(tensors, LEVELS[-1])
