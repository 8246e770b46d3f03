# SPDX-License-Identifier: Apache-2.0
"""Every back end gives the same bytes and the same symbols; errors come out alike.

NumPy = portable C++ = AVX2 = AVX-512, each forced by name; those that this processor
lacks are skipped. POLYCODEC_TEST_CASES=1000 runs more random cases.
"""

from __future__ import annotations

import functools
import os
import types

import numpy as np
import pytest
from coder_streams import (
    GOLDEN,
    SHAPES,
    assert_decodes,
    decode,
    edge_pass,
    encode,
    force,
    golden_stream,
    random_pass,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polycodec.cuda import StreamDecoder, StreamEncoder, TableSet
from polycodec.cuda.host import layouts, native, threads
from polycodec.cuda.host.library import SIMD, library, reason
from polycodec.cuda.host.library import simd as chosen_simd
from polycodec.errors import BitstreamError, InputError, TruncatedError, UsageError

CASES = int(os.environ.get("POLYCODEC_TEST_CASES", "60"))
BEST = -1 if library() is None else library().best_simd
LEVELS = SIMD[: BEST + 1]
pytestmark = [
    pytest.mark.usefixtures("coder_settings"),
    pytest.mark.skipif(BEST < 0, reason=f"no C library: {reason()}"),
]
every_level = pytest.mark.parametrize(
    "simd",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(k > BEST, reason=f"this processor lacks {name}"),
        )
        for k, name in enumerate(SIMD)
    ],
)


def assert_all_alike(passes, levels, **options) -> bytes:
    """All ``levels`` write the first one's bytes and read the symbols back."""
    data = encode(passes, levels[0], **options)
    for simd in levels[1:]:
        assert encode(passes, simd, **options) == data, simd
    for simd in levels:
        assert_decodes(data, passes, simd)
    return data


def cut_tables(rng, precision: int, count: int, size: int, far=False) -> TableSet:
    """Cheap tables of any shape: frequencies by cuts at random places."""
    sizes, minimum, rows = [], [], []
    whole = 1 << precision
    for _ in range(count):
        slots = int(rng.integers(1, min(size, whole) + 1))
        escape = slots > 1 and rng.random() < 0.5
        cuts = np.sort(rng.choice(whole - 1, slots - 1, replace=False)) + 1
        freqs = np.diff(np.concatenate([[0], cuts, [whole]]))
        rows.append(freqs if escape else np.concatenate([[0], freqs]))
        sizes.append(rows[-1].size)
        low = 10**6 if far and not escape else -20_000
        minimum.append(int(rng.integers(low, low + 30_000)))
    return TableSet(precision, sizes, minimum, np.concatenate(rows))


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    **SHAPES,
    chunks=st.sampled_from([None, 1, 2, 3, 5]),
    count=st.sampled_from([1, 7, 64, 65, 300]),
    size=st.sampled_from([2, 30, 255, 700]),
    far=st.booleans(),
)
def test_random_streams_are_the_same_everywhere(
    seed, lanes, chunks, crc, count, size, far
):
    rng = np.random.default_rng(seed)
    passes = []
    for _ in range(rng.integers(1, 4)):
        precision = int(rng.integers(8, 16))
        many = count if precision <= 12 else min(count, 7)
        tables = cut_tables(rng, precision, many, min(size, 1 << precision), far)
        dtype = np.uint8 if many <= 256 and rng.random() < 0.7 else np.int32
        passes.append(random_pass(rng, tables, int(rng.integers(0, 500)), dtype))
    options = {"lanes": lanes, "chunks": 1 if lanes == 0 else chunks, "crc": crc}
    assert_all_alike(passes, ("numpy", *LEVELS), **options)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_every_lane_count_with_partial_steps(lanes, chunks):
    rng = np.random.default_rng(lanes)
    tables = cut_tables(rng, 12, 64, 200)
    for n in (1, lanes, chunks * lanes + 1, 5 * chunks * lanes + lanes - 1):
        passes = [
            random_pass(rng, tables, n, np.uint8),
            random_pass(rng, tables, 3 * n),
        ]
        assert_all_alike(passes, ("numpy", *LEVELS), lanes=lanes, chunks=chunks)


@pytest.mark.parametrize("precision", range(8, 16))
def test_frequencies_of_one_and_of_all(precision):
    for lanes in (8, 16, 32):
        assert_all_alike([edge_pass(precision, 900)], LEVELS, lanes=lanes)


@pytest.mark.parametrize("layout", ["packed", "folded", "wide", "searched"])
def test_every_layout_of_tables(layout):
    rng = np.random.default_rng(11)
    precision, count, size = {
        "packed": (12, 200, 100),
        "folded": (12, 60, 512),
        "wide": (15, 3, 5000),
        "searched": (15, 40, 2000),
    }[layout]
    tables = cut_tables(rng, precision, count, size)
    # Other processors have no kernels for folded tables, and wide ones in their place.
    if layout == "folded" and not layouts._FOLDED:
        layout = "wide"
    struct = layouts.prepare(tables)
    kinds = ("packed", "folded", "wide")
    assert [k for k in kinds if getattr(struct, k)] == [layout] * (layout in kinds)
    passes = [random_pass(rng, tables, 3000, dtype) for dtype in (np.uint8, np.int32)]
    assert_all_alike(passes, ("numpy", *LEVELS), lanes=32, chunks=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("count", [64, 128])
def test_rows_to_the_last_of_sixteen_bits(count, dtype):
    """2^16 rows, then one more; of 64 tables kernels keep the numbers in registers."""
    size, rng = (1 << 16) // count, np.random.default_rng(count)
    freqs = np.full(1 << 16, (1 << 12) // size)
    for beyond in (0, 1):
        if beyond:  # the last table's last frequency becomes two
            freqs = np.append(freqs, 1)
            freqs[-2] -= 1
        sizes = [size] * (count - 1) + [size + beyond]
        tables = TableSet(12, sizes, rng.integers(-32768, 31000, count), freqs)
        _, symbols, indexes = random_pass(rng, tables, 2000, dtype)
        indexes[-9:], symbols[-9:] = count - 1, tables.maximum[-1]
        rows, *_ = native.rows(tables, symbols, indexes)
        assert rows[-1] == len(freqs) - 1
        assert rows.dtype == (np.uint32 if beyond else np.uint16)
        one = (tables, symbols, indexes)
        assert_all_alike([one], ("numpy", *LEVELS), lanes=32, chunks=2)


def test_limits_of_sixteen_bits():
    # The extreme symbols, the largest table, and one beyond 16 bits.
    edges = TableSet(8, [3, 3], [-32768, 32766], [0, 128, 128, 0, 128, 128])
    symbols = np.array([-32768, -32767, 32766, 32767] * 30, np.int32)
    indexes = np.array([0, 0, 1, 1] * 30, np.uint8)
    full = TableSet(15, [(1 << 15) + 1], [-16384], [0] + [1] * (1 << 15))
    beyond = TableSet(8, [3], [32767], [0, 128, 128])
    lowest = TableSet(8, [3], [-(2**31)], [0, 128, 128])
    rng = np.random.default_rng(1)
    for one in (
        (edges, symbols, indexes),
        random_pass(rng, full, 200, np.uint8),
        random_pass(rng, beyond, 200, np.uint8),
        random_pass(rng, lowest, 200, np.uint8),
    ):
        assert_all_alike([one], ("numpy", *LEVELS), lanes=32)


@every_level
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_streams(simd, case):
    passes, options, data = golden_stream(case)
    assert encode(passes, simd, **options) == data
    assert_decodes(data, passes, simd)


@functools.lru_cache
def material(chunks: int) -> tuple[list, bytes]:
    rng = np.random.default_rng(chunks)
    tables = cut_tables(rng, 12, 9, 120)
    passes = [
        random_pass(rng, tables, 400, np.uint8),
        random_pass(rng, tables, 77, np.uint8),
    ]
    return passes, encode(passes, "scalar", lanes=16, chunks=chunks)


def outcome(data: bytes, passes, simd) -> object:
    """Return what decoding gives: the symbols, or the error and what it says."""
    try:
        return [found.tolist() for found in decode(data, passes, simd)]
    except BitstreamError as error:
        return type(error).__name__, str(error)


@settings(max_examples=4 * CASES, deadline=None)
@given(
    chunks=st.sampled_from([1, 2, 3]),
    cut=st.integers(0, 12),
    flips=st.lists(st.integers(0, 2**30), max_size=3),
)
def test_damage_gives_the_same_symbols_or_the_same_error(chunks, cut, flips):
    passes, whole = material(chunks)
    data = bytearray(whole[: len(whole) - cut])
    for bit in flips:
        data[bit // 8 % len(data)] ^= 1 << bit % 8
    outcomes = [outcome(bytes(data), passes, simd) for simd in LEVELS]
    assert all(one == outcomes[0] for one in outcomes), outcomes


@every_level
@pytest.mark.parametrize("lanes", [8, 16, 32])
def test_nothing_is_written_outside(simd, lanes):
    """Canaries around symbols, words and states stay as they were."""
    rng = np.random.default_rng(lanes)
    passes = [random_pass(rng, cut_tables(rng, 12, 5, 60), 10 * lanes + 3, np.uint8)]
    data = encode(passes, simd, lanes=lanes)
    force(simd)
    decoder = StreamDecoder(data, backend="native")
    lane = decoder._lanes
    buffers = {}
    for name in ("states", "words"):
        array = getattr(lane, name)
        room = np.full(array.size + 64, 0xA5, array.dtype)
        room[32:-32] = array.reshape(-1)
        setattr(lane, name, room[32:-32].reshape(array.shape))
        buffers[name] = room
    found = decoder.get(passes[0][2], passes[0][0])
    decoder.finish()
    np.testing.assert_array_equal(found, passes[0][1])
    for room in buffers.values():
        assert (room[:32] == 0xA5).all() and (room[-32:] == 0xA5).all()


@every_level
def test_words_and_escapes_that_run_out_are_named(simd):
    tables = TableSet(8, [2], [0], [128, 128])
    indexes = np.zeros(320, np.uint8)
    symbols = np.where(np.arange(320) % 3, 0, 999).astype(np.int32)
    passes = [(tables, symbols, indexes)]
    decoder = StreamDecoder(encode(passes, simd, lanes=16), backend="native")
    lane = decoder._lanes
    lane.word_end[0] -= 1
    with pytest.raises(TruncatedError, match="words"):
        decoder.get(indexes, tables)
    decoder = StreamDecoder(encode(passes, simd, lanes=16), backend="native")
    decoder._lanes.side_end[0] -= 1
    with pytest.raises(TruncatedError, match="escapes"):
        decoder.get(indexes, tables)


@every_level
def test_symbols_that_cannot_be_coded_are_named(simd):
    tables = TableSet(8, [3, 3], [0, 0], [0, 128, 128, 1, 128, 127])
    symbols, indexes = np.zeros(50, np.int32), np.ones(50, np.uint8)
    symbols[7], symbols[33] = 99, -77  # two escapes
    encoder = StreamEncoder(backend=force(simd))
    encoder.put(symbols, indexes, tables)
    for wrong in (2, -1, 40_000):
        bad = symbols.copy()
        bad[41], index = wrong, indexes.copy()
        index[41] = 0
        with pytest.raises(InputError, match=f"symbol {wrong} at 41"):
            encoder.put(bad, index, tables)


@every_level
def test_many_escapes(simd):
    tables = TableSet(8, [2], [0], [250, 6])
    symbols = np.arange(-2000, 2000, dtype=np.int32)
    passes = [(tables, symbols, np.zeros(4000, np.uint8))]
    assert encode(passes, simd, lanes=8) == encode(passes, "numpy", lanes=8)
    np.testing.assert_array_equal(
        decode(encode(passes, simd, lanes=8), passes, simd)[0], symbols
    )


@every_level
@pytest.mark.parametrize("number", [2, 3, 9])
def test_threads_change_nothing(simd, number, monkeypatch):
    rng = np.random.default_rng(number)
    tables = cut_tables(rng, 12, 64, 60)
    passes = [random_pass(rng, tables, 9000, np.uint8)]
    alone = encode(passes, simd, lanes=16, chunks=5)
    monkeypatch.setattr(threads, "for_symbols", lambda n: number)
    assert encode(passes, simd, lanes=16, chunks=5) == alone
    np.testing.assert_array_equal(decode(alone, passes, simd)[0], passes[0][1])
    cut = alone[:-8]  # of the last chunk: the first failing chunk is reported
    with pytest.raises(TruncatedError, match="chunk 4 of 5"):
        decode(cut, passes, simd)


@pytest.mark.parametrize("number", [1, 2])
def test_first_failing_chunk_is_reported(number):
    # Chunk 0 has no room for words; chunk 1's partial step asks for a row beyond.
    tables = TableSet(8, [2], [0], [255, 1])
    rows = np.ones(7, np.uint16)
    rows[6] = 2
    fields = ("side", "side_next", "side_end", "word", "word_end")
    lanes = types.SimpleNamespace(
        states=np.full((2, 2), 2**32 - 1, np.uint32),
        words=np.zeros(8, np.uint16),
        mini=False,
        **{name: np.zeros(2, np.int64) for name in fields},
    )
    lanes.word[1] = 8
    struct, room = layouts.prepare(tables), native._describe(lanes)
    for simd in range(BEST + 1):
        report = library().encode_pass(
            *(struct, rows.ctypes.data, rows.itemsize, rows.size),
            *(room, simd, number),
        )
        assert report == native._WORDS_RAN_OUT  # of chunk 0


def test_number_of_threads(monkeypatch):
    monkeypatch.setenv("POLYCODEC_THREADS", "3")
    assert threads.count() == 3
    assert threads.for_symbols(1000) == 1
    assert threads.for_symbols(1 << 20) == 3
    monkeypatch.setenv("POLYCODEC_THREADS", "many")
    with pytest.raises(UsageError):
        threads.count()
    monkeypatch.delenv("POLYCODEC_THREADS")
    import torch

    assert threads.count() == torch.get_num_threads()


def test_names_of_simd_levels(monkeypatch):
    monkeypatch.setenv("POLYCODEC_SIMD", "scalar")
    assert chosen_simd() == 0
    monkeypatch.delenv("POLYCODEC_SIMD")
    assert chosen_simd() == BEST
    monkeypatch.setenv("POLYCODEC_SIMD", "mmx")
    with pytest.raises(UsageError, match="mmx"):
        chosen_simd()
