# SPDX-License-Identifier: Apache-2.0
"""The range coder's streams: round trips, the same bytes everywhere, golden bytes."""

from __future__ import annotations

import functools
import pathlib
import re

import numpy as np
import pytest
from coder_streams import (
    GOLDEN,
    LANES,
    SHAPES,
    assert_decodes,
    edge_pass,
    encode,
    golden_stream,
    random_pass,
    random_tables,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polycodec import cuda
from polycodec.cuda import (
    Categorical,
    Mixture,
    ScaleSet,
    StreamDecoder,
    StreamEncoder,
    TableSet,
    reference,
    shares,
)
from polycodec.cuda.host.library import library, reason
from polycodec.cuda.lanes import split_pass
from polycodec.cuda.stream import choose_lanes
from polycodec.errors import InputError, ModelError, UsageError

NATIVE = pytest.param(
    "native",
    marks=pytest.mark.skipif(library() is None, reason=f"no C library: {reason()}"),
)
BACKENDS = ["numpy", NATIVE]
both_backends = pytest.mark.parametrize("backend", BACKENDS)


def assert_round_trip(passes, backend="auto", **options) -> bytes:
    data = encode(passes, backend, **options)
    assert_decodes(data, passes, backend)
    return data


@functools.lru_cache
def gaussian_tables(precision=12) -> tuple[TableSet, np.ndarray]:
    """Sixteen zero-mean Gaussians; integrals by sums of a fine grid, no erf."""
    scales = np.exp(np.linspace(np.log(0.2), np.log(20), 16))
    pmfs, minimum = [], []
    for scale in scales:
        half = max(1, int(np.ceil(5 * scale)))
        fine = (np.arange((2 * half + 1) * 64) + 0.5) / 64 - half - 0.5
        pmf = np.exp(-0.5 * (fine / scale) ** 2).reshape(-1, 64).sum(axis=1)
        pmfs.append(pmf / pmf.sum())
        minimum.append(-half)
    return TableSet.from_pmfs(pmfs, minimum, precision, [1e-6] * 16), scales


def gaussian_pass(rng, n: int, mean_index=8):
    tables, scales = gaussian_tables()
    indexes = np.clip(rng.normal(mean_index, 3, n), 0, 15).astype(np.uint8)
    symbols = np.rint(rng.normal(0, scales[indexes])).astype(np.int32)
    return tables, symbols, indexes


@both_backends
@pytest.mark.parametrize("lanes", LANES)
def test_every_lane_count_and_partial_step(backend, lanes):
    rng = np.random.default_rng(lanes)
    tables = random_tables(rng, 12, 7)
    for n in {0, 1, 2, lanes - 1, lanes, lanes + 1, 3 * lanes + 5} - {-1}:
        passes = [random_pass(rng, tables, n)]
        assert_round_trip(passes, backend, lanes=lanes)


@both_backends
@pytest.mark.parametrize("chunks", [1, 2, 3, 7])
@pytest.mark.parametrize("crc", ["none", "stream", "chunk"])
def test_chunks_passes_and_checksums(backend, chunks, crc):
    rng = np.random.default_rng(chunks)
    passes = [
        random_pass(rng, random_tables(rng, precision, 5), n)
        for precision, n in [(8, 70), (15, 0), (12, 1), (13, 33), (12, 200)]
    ]
    assert_round_trip(passes, backend, lanes=4, chunks=chunks, crc=crc)


@both_backends
def test_chunks_without_symbols_cost_no_time(backend, monkeypatch):
    """A stream says how many chunks it has; small passes may be many."""
    assert split_pass(3, 1000, 2) == [slice(0, 2), slice(2, 3)]
    assert split_pass(0, 1000, 2) == []
    encoder = StreamEncoder(backend=backend)
    for symbol in (0, 1, 0):
        encoder.put([symbol], [0], ONE)
    data = encoder.finish(lanes=1, chunks=1000)
    calls, decode = [], reference._decode_chunk
    monkeypatch.setattr(
        reference, "_decode_chunk", lambda *args: calls.append(1) or decode(*args)
    )
    decoder = StreamDecoder(data, backend=backend)
    assert [int(decoder.get([0], ONE)[0]) for _ in range(3)] == [0, 1, 0]
    decoder.finish()
    assert len(calls) == (3 if backend == "numpy" else 0)


@both_backends
@pytest.mark.parametrize("precision", range(8, 16))
def test_every_precision_with_frequencies_1_and_all(backend, precision):
    for lanes in (0, 2, 32):
        assert_round_trip([edge_pass(precision, 300)], backend, lanes=lanes)


@both_backends
def test_large_alphabet_and_many_tables(backend):
    rng = np.random.default_rng(3)
    book = TableSet.from_pmfs([rng.gamma(1, size=1024)], [0], 14, None)
    many = random_tables(rng, 10, 300)  # indexes beyond 8 bits
    passes = [random_pass(rng, book, 500), random_pass(rng, many, 700)]
    assert_round_trip(passes, backend, lanes=8)


@both_backends
def test_no_symbols_are_no_bytes(backend):
    tables = gaussian_tables()[0]
    nothing = [(tables, np.zeros(0, np.int32), np.zeros(0, np.uint8))]
    assert encode([]) == b""
    assert assert_round_trip(nothing, backend) == b""
    assert assert_round_trip(nothing * 3, backend, lanes=32, chunks=4) == b""


@both_backends
def test_certain_symbols_cost_nothing(backend):
    tables = TableSet(12, [2], [7], [0, 4096])
    passes = [(tables, np.full(1000, 7), np.zeros(1000, np.uint8))]
    assert assert_round_trip(passes, backend) == b""


@both_backends
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_streams(backend, case):
    passes, options, data = golden_stream(case)
    assert assert_round_trip(passes, backend, **options) == data


def test_golden_fingerprints():
    for arrays in GOLDEN["tables"].values():
        assert TableSet.from_arrays(arrays).fingerprint() == arrays["fingerprint"]


def test_format_page_shows_the_golden_bytes():
    page = (pathlib.Path(cuda.__file__).parent / "FORMAT.md").read_text()
    blocks = re.findall(r"```\n(.*?)```", page, re.S)
    shown = [
        "".join(
            "".join(re.findall(r"^((?:[0-9a-f]{2} )+)", line + " "))
            for line in b.split("\n")
        )
        for b in blocks
    ]
    shown = [text.replace(" ", "") for text in shown]
    golden = [c["hex"] for c in GOLDEN["cases"] if c["name"].startswith("FORMAT.md")]
    assert shown == golden and len(golden) == 2


@pytest.mark.skipif(library() is None, reason="no C library to compare with")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(chunks=st.sampled_from([None, 1, 2, 5]), **SHAPES)
def test_native_and_numpy_write_the_same_bytes(seed, lanes, chunks, crc):
    rng = np.random.default_rng(seed)
    if lanes == 0:
        chunks = 1
    passes = [
        random_pass(rng, random_tables(rng, int(rng.integers(8, 16)), 4), int(n))
        for n in rng.integers(0, 150, rng.integers(1, 4))
    ]
    options = {"lanes": lanes, "chunks": chunks, "crc": crc}
    data = encode(passes, "numpy", **options)
    assert encode(passes, "native", **options) == data
    for backend in ("numpy", "native"):
        assert_decodes(data, passes, backend)


def test_small_streams_cost_under_two_bytes_on_average():
    rng = np.random.default_rng(5)
    extra = []
    for _ in range(400):
        one = gaussian_pass(rng, int(rng.integers(1, 120)))
        data = encode([one])
        if len(data) < 100:
            extra.append(len(data) - one[0].bits(*one[1:]) / 8)
    assert len(extra) > 200
    assert np.mean(extra) < 1.9  # 1.76 when written


@pytest.mark.parametrize("n", [12_000, 40_000, 90_000])
def test_overhead_of_chosen_lanes_stays_below_a_third_percent(n):
    one = gaussian_pass(np.random.default_rng(n), n)
    data = encode([one])
    ideal = one[0].bits(*one[1:]) / 8
    assert ideal > 3000
    assert len(data) <= ideal * 1.0033 + 4


def test_tables_cost_little_over_the_true_distribution():
    tables, scales = gaussian_tables()
    for index, scale in enumerate(scales):
        rows = slice(tables.first[index] + 1, tables.first[index + 1])
        k = tables.symbols[rows]
        fine = k[:, None] + (np.arange(64) + 0.5) / 64 - 0.5
        p = np.exp(-0.5 * (fine / scale) ** 2).sum(axis=1)
        p /= p.sum()
        entropy = -(p * np.log2(p)).sum()
        real = (p * tables.ideal[rows]).sum()
        assert entropy <= real <= entropy * 1.004 + 0.0005


def test_choice_of_lanes():
    assert choose_lanes(0) == choose_lanes(8191) == (0, 1)
    assert choose_lanes(8192) == (2, 1)
    assert choose_lanes(131072) == choose_lanes(262143) == (32, 1)
    assert choose_lanes(262144) == (32, 2)
    assert choose_lanes(100, chunks=2) == (1, 2)
    for lanes, chunks in [(3, None), (64, None), (0, 2), (4, 0), (-1, 1)]:
        with pytest.raises(UsageError):
            choose_lanes(1000, lanes, chunks)


def test_estimate_is_the_ideal_size():
    one = gaussian_pass(np.random.default_rng(8), 3000)
    encoder = StreamEncoder()
    encoder.put(one[1], one[2], one[0])
    ideal = one[0].bits(*one[1:]) / 8
    # Each symbol's cost is rounded to 1/256 bit.
    assert abs(encoder.estimated_bytes() - ideal) < 1 + 3000 / 512 / 8


@both_backends
def test_inputs_that_cannot_be_coded(backend):
    tables = TableSet(8, [3, 3], [0, 0], [0, 128, 128, 1, 128, 127])
    put = StreamEncoder(backend=backend).put
    zero = np.zeros(1, np.uint8)
    for symbols, indexes in [
        (np.array([2]), zero),  # outside a table without escape
        (np.array([-1]), zero),
        (np.array([40_000]), zero + 1),  # beyond the escape's 16 bits
        (np.array([2**40]), zero + 1),
        (np.array([0.5]), zero),
        (np.array([0, 0]), zero),
        (np.array([0]), zero + 2),
        (np.array([0]), np.array([-1])),
    ]:
        with pytest.raises(InputError):
            put(symbols, indexes, tables)
    with pytest.raises(InputError):
        StreamDecoder(b"", backend=backend).get(np.array([2]), tables)


def test_clamped_symbols_can_be_coded():
    tables = TableSet(8, [3, 3], [0, 0], [0, 128, 128, 1, 128, 127])
    values, indexes = np.array([-9, 9, 99_999, -9]), np.array([0, 0, 1, 1])
    clamped = tables.clamp(values, indexes)
    assert clamped.tolist() == [0, 1, 32767, -9]
    assert_round_trip([(tables, clamped, indexes)])


def test_the_arrays_are_copied_and_a_finished_encoder_refuses():
    tables, symbols, indexes = gaussian_pass(np.random.default_rng(1), 50)
    encoder, wanted = StreamEncoder(), symbols.copy()
    encoder.put(symbols, indexes, tables)
    symbols += 1
    data = encoder.finish()
    np.testing.assert_array_equal(StreamDecoder(data).get(indexes, tables), wanted)
    with pytest.raises(UsageError):
        encoder.finish()
    with pytest.raises(UsageError):
        encoder.put(symbols, indexes, tables)


def test_torch_tensors_are_taken():
    import torch

    tables, symbols, indexes = gaussian_pass(np.random.default_rng(2), 99)
    data = encode([(tables, torch.from_numpy(symbols), torch.from_numpy(indexes))])
    assert data == encode([(tables, symbols.reshape(3, 33), indexes.astype(np.int64))])


def test_backend_is_chosen_by_name_and_environment(monkeypatch):
    monkeypatch.setenv("POLYCODEC_CODER", "numpy")
    assert cuda.backend() == "numpy"
    monkeypatch.delenv("POLYCODEC_CODER")
    assert cuda.backend() == ("numpy" if library() is None else "native")
    with pytest.raises(UsageError):
        StreamEncoder(backend="fortran")


def test_a_second_opinion_needs_as_many_bytes():
    constriction = pytest.importorskip("constriction")
    rng = np.random.default_rng(4)
    pmf = rng.gamma(0.5, size=60) + 1e-3
    tables = TableSet.from_pmfs([pmf], [0], 12, None)
    symbols = rng.choice(60, p=pmf / pmf.sum(), size=20_000).astype(np.int32)
    data = encode([(tables, symbols, np.zeros(20_000, np.uint8))], lanes=0)
    model = constriction.stream.model.Categorical(
        tables.freqs[1:] / (1 << 12), perfect=False
    )
    other = constriction.stream.queue.RangeEncoder()
    other.encode(symbols, model)
    assert abs(len(data) - 4 * len(other.get_compressed())) <= 8


ONE = TableSet.from_pmfs([[1, 2]], [0], 8)
RAGGED = [[1], [2, 3]]
SCALES = ScaleSet.from_scales([1.0, 2.0])


def put(*args) -> StreamEncoder:
    encoder = StreamEncoder()
    encoder.put(*args)
    return encoder


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (ModelError, lambda: TableSet(float("nan"), [2], [0], [0, 256])),
        (ModelError, lambda: TableSet(8, RAGGED, [0], [0, 256])),
        (ModelError, lambda: TableSet.from_pmfs([], [], 12)),
        (ModelError, lambda: TableSet.from_pmfs([[1, [2, 3]]], [0], 12)),
        (ModelError, lambda: TableSet.from_pmfs([[[1, 2]]], [0], 12)),
        (ModelError, lambda: TableSet.from_pmfs(["text"], [0], 12)),
        (ModelError, lambda: TableSet.from_pmfs([[1, 2]], [0], 8, ["text"])),
        (ModelError, lambda: TableSet.from_pmfs([[1, 2]], [0], 8.5)),
        (ModelError, lambda: TableSet.from_pmfs([[1, 2]], [0], 99)),
        (ModelError, lambda: TableSet.from_pmfs([[1, 2]], [0.5], 8)),
        (InputError, lambda: put(RAGGED, [0] * 3, ONE)),
        (InputError, lambda: put([0, 1, 1], RAGGED, ONE)),
        (InputError, lambda: put(None, [0], ONE)),
        (InputError, lambda: put(["text"], [0], ONE)),
        (UsageError, lambda: put([0, 1], [0, 0], ONE).finish(chunks=1.5)),
        (UsageError, lambda: put([0, 1], [0, 0], ONE).finish(lanes=2.0)),
        (InputError, lambda: StreamDecoder("text")),
        (InputError, lambda: StreamDecoder(None)),
        (InputError, lambda: Mixture(SCALES, RAGGED, [[0]])),
        (InputError, lambda: Categorical(RAGGED)),
        (InputError, lambda: ScaleSet.from_scales(RAGGED)),
        (InputError, lambda: shares([1, 2, 3], 2)),
        (InputError, lambda: shares([1.5], 2)),
        (InputError, lambda: shares([], 2)),
    ],
)
def test_what_is_no_argument_is_named(error, call):
    with pytest.raises(error):
        call()


def test_a_view_with_gaps_is_read_and_numbers_may_be_of_numpy():
    symbols, indexes = [0, 1, 1] * 50, [0] * 150
    data = put(symbols, indexes, ONE).finish(lanes=np.int32(4), chunks=np.int64(2))
    gaps = memoryview(np.repeat(np.frombuffer(data, np.uint8), 2).tobytes())[::2]
    assert StreamDecoder(gaps).get(indexes, ONE).tolist() == symbols
    assert cuda.crc32c(gaps) == cuda.crc32c(data)
    assert shares([1, 2, 3], 3).tolist() == [1, 1, 1]


@both_backends
def test_a_mixture_that_was_changed_after_it_was_checked_is_named(backend):
    means = np.zeros((1, 5), np.int32)
    good, changed = (Mixture(SCALES, means, np.zeros((1, 5), "u1")) for _ in range(2))
    encoder = StreamEncoder(backend=backend)
    encoder.put_prior(np.zeros(5, int), good)
    data = encoder.finish()
    changed.indexes[0, 3] = 200
    with pytest.raises(InputError, match=r"0\.\.200; expected 0\.\.1"):
        StreamEncoder(backend=backend).put_prior(np.zeros(5, int), changed)
    with pytest.raises(InputError, match=r"0\.\.200; expected 0\.\.1"):
        StreamDecoder(data, backend=backend).get_prior(changed)
