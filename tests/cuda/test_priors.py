# SPDX-License-Identifier: Apache-2.0
"""Priors beside tables: the same bytes on every back end, the errors, golden bytes.

NumPy = portable C++ = AVX2 = AVX-512, each forced by name, and the CUDA kernels'
source run by emulation.cpp. POLYCODEC_TEST_CASES=1000 runs more random cases.
"""

from __future__ import annotations

import dataclasses
import functools
import os

import numpy as np
import pytest
from emulation import Emulator, library
from hypothesis import given
from hypothesis import strategies as st
from prior_streams import (
    GOLDEN,
    LEVELS,
    assert_all_alike,
    decode,
    draw,
    encode,
    every_level,
    force,
    golden_passes,
    property_test,
    random_categorical,
    random_mixture,
    random_prior,
    random_scales,
    random_tables_pass,
)

from polycodec.cuda import (
    BatchCategorical,
    BatchDecoder,
    BatchEncoder,
    BatchMixture,
    Categorical,
    Mixture,
    ScaleSet,
    StreamDecoder,
    StreamEncoder,
    TableSet,
)
from polycodec.cuda.host import threads
from polycodec.cuda.priors.integer_cdf import PRECISION
from polycodec.cuda.priors.mixture import MEAN_LIMIT
from polycodec.errors import BitstreamError, InputError, TruncatedError, UsageError


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
    monkeypatch.setattr(threads, "for_symbols", lambda n: 2)
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


@every_level
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_streams(simd, case):
    passes = golden_passes(case)
    options = {name: case[name] for name in ("lanes", "chunks", "crc")}
    data = bytes.fromhex(case["hex"])
    assert encode(passes, simd, **options) == data
    for found, one in zip(decode(data, passes, simd), passes, strict=True):
        np.testing.assert_array_equal(found, one[0])


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
    import torch

    rng = np.random.default_rng(2)
    mixture, categorical = random_mixture(rng, 30), random_categorical(rng, 30)
    parts = (mixture.means, mixture.indexes, mixture.weights)
    same = Mixture(mixture.scales, *map(torch.from_numpy, parts))
    also = Categorical(torch.from_numpy(categorical.logits))
    passes = [(draw(rng, mixture), mixture), (draw(rng, categorical), categorical)]
    tensors = [(torch.from_numpy(passes[0][0]), same), (passes[1][0], also)]
    assert encode(passes, LEVELS[-1]) == encode(tensors, LEVELS[-1])


# ---- the CUDA kernels' source, on the host


@functools.cache
def no_emulation() -> str:
    try:
        library()
    except UsageError as error:
        return str(error)
    return ""


emulated = pytest.mark.skipif(bool(no_emulation()), reason=no_emulation())


def batch_prior(priors) -> BatchMixture | BatchCategorical:
    if isinstance(priors[0], Categorical):
        return BatchCategorical(np.stack([prior.logits for prior in priors]))
    names = ("means", "indexes", "weights")
    parts = (np.stack([getattr(prior, name) for prior in priors]) for name in names)
    return BatchMixture(priors[0].scales, *parts)


def device_encode(batch, device, **options) -> list[bytes]:
    """batch: one list of passes for each stream, of equal sizes and kinds."""
    encoder = BatchEncoder(len(batch), device)
    for parts in zip(*batch, strict=True):
        symbols = np.stack([part[0] for part in parts]).astype(np.int32)
        if len(parts[0]) == 2:
            encoder.put_prior(symbols, batch_prior([part[1] for part in parts]))
        else:
            indexes = np.stack([part[1] for part in parts]).astype(np.uint8)
            encoder.put(symbols, indexes, parts[0][2])
    return encoder.finish(**options)


def device_decode(data, batch, device) -> None:
    decoder, found = BatchDecoder(data, device), []
    for parts in zip(*batch, strict=True):
        if len(parts[0]) == 2:
            found.append(decoder.get_prior(batch_prior([part[1] for part in parts])))
        else:
            indexes = np.stack([part[1] for part in parts]).astype(np.uint8)
            found.append(decoder.get(indexes, parts[0][2]))
    decoder.finish()
    for symbols, parts in zip(found, zip(*batch, strict=True), strict=True):
        np.testing.assert_array_equal(symbols, np.stack([part[0] for part in parts]))


@emulated
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_streams_on_the_emulated_device(case):
    passes, data = golden_passes(case), bytes.fromhex(case["hex"])
    options = {name: case[name] for name in ("lanes", "chunks", "crc")}
    assert device_encode([passes], Emulator(), **options) == [data]
    device_decode([data], [passes], Emulator())


@emulated
@pytest.mark.parametrize("lanes", [0, 1, 2, 4, 8, 16, 32])
def test_every_lane_count_with_partial_steps_on_the_emulated_device(lanes):
    rng = np.random.default_rng(lanes)
    for n in {1, max(lanes, 1), 5 * lanes + max(lanes - 1, 1)}:
        for make in (random_mixture, random_categorical):
            priors = [make(rng, n), make(rng, n)]
            passes = [(draw(rng, prior), prior) for prior in priors]
            data = encode(passes, "numpy", lanes=lanes)
            assert device_encode([passes], Emulator(), lanes=lanes) == [data]
            device_decode([data], [passes], Emulator())


@emulated
@property_test
@given(
    seed=st.integers(0, 2**32 - 1),
    lanes=st.sampled_from([None, 0, 1, 2, 4, 8, 16, 32]),
    chunks=st.sampled_from([None, 1, 2, 5]),
)
def test_the_emulated_device_writes_the_same_bytes(seed, lanes, chunks):
    rng = np.random.default_rng(seed)
    count, batch = int(rng.integers(1, 3)), []
    sizes = rng.integers(0, 80, rng.integers(1, 4)).tolist()
    kinds = rng.random(len(sizes))
    scales = random_scales(rng)
    for _ in range(count):
        passes = []
        for n, kind in zip(sizes, kinds, strict=True):
            own = np.random.default_rng([seed, n])  # shapes agree over the batch
            if kind < 0.2:
                passes.append(random_tables_pass(np.random.default_rng(n), n))
                continue
            prior = (random_mixture if kind < 0.7 else random_categorical)(own, n)
            if isinstance(prior, Mixture):
                bins = prior.indexes % len(scales)
                means = np.roll(prior.means, len(batch))
                prior = Mixture(scales, means, bins, prior.weights)
            passes.append((draw(rng, prior), prior))
        batch.append(passes)
    options = {"lanes": lanes, "chunks": 1 if lanes == 0 else chunks}
    wanted = [encode(passes, LEVELS[-1], **options) for passes in batch]
    for passes in batch[1:]:  # tables are shared by all streams of a batch
        for k, one in enumerate(passes):
            passes[k] = (*one[:-1], batch[0][k][-1]) if len(one) == 3 else one
    assert device_encode(batch, Emulator(seed=seed), **options) == wanted
    device_decode(wanted, batch, Emulator(seed=seed))


@emulated
def test_what_is_wrong_is_told_at_the_end_by_the_device():
    scales, shape = ScaleSet.from_scales([1.0, 2.0]), (2, 2, 9)
    means = np.zeros(shape, np.int32)
    indexes, weights = np.zeros(shape, np.uint8), np.full(shape, 128, np.int16)
    symbols = np.zeros((2, 9), np.int32)
    good = BatchMixture(scales, means, indexes, weights)
    encoder = BatchEncoder(2, Emulator())
    encoder.put_prior(symbols, good)
    data = encoder.finish(lanes=2)
    for name, value in [("means", MEAN_LIMIT + 1), ("indexes", 2), ("weights", 127)]:
        part = getattr(good, name).copy()
        part[1, 1, 4] = value
        bad = dataclasses.replace(good, **{name: part})
        encoder = BatchEncoder(2, Emulator())
        encoder.put_prior(symbols, bad)
        with pytest.raises(InputError, match="stream 1, pass 0, position 4"):
            encoder.finish()
        decoder = BatchDecoder(data, Emulator())
        decoder.get_prior(bad)
        with pytest.raises(InputError, match="chunk 0: a mixture is no"):
            decoder.finish()
    for value, prior in [
        (40_000, good),
        (3, BatchCategorical(np.zeros((2, 9, 3), np.int16))),
    ]:
        wrong = symbols.copy()
        wrong[1, 7] = value
        encoder = BatchEncoder(2, Emulator())
        encoder.put_prior(wrong, prior)
        with pytest.raises(InputError, match=f"position 7: symbol {value}"):
            encoder.finish()
    for prior in (
        BatchCategorical(np.zeros((2, 9), np.int16)),
        BatchCategorical(np.zeros((1, 9, 3), np.int16)),
        BatchCategorical(np.zeros((2, 9, 3), np.int32)),
        BatchCategorical(np.zeros((2, 9, 0), np.int16)),
        dataclasses.replace(good, weights=weights[:, :1]),
    ):
        with pytest.raises(InputError):
            BatchDecoder(data, Emulator()).get_prior(prior)
    with pytest.raises(InputError, match="prior is for"):
        BatchEncoder(2, Emulator()).put_prior(symbols[:, :5], good)
