# SPDX-License-Identifier: Apache-2.0
"""Frequency tables: rounding at the least cost, checks; and CRC-32C."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from polycodec.cuda import TableSet, crc32c
from polycodec.cuda.host.checksum import crc32c_numpy
from polycodec.cuda.host.library import library
from polycodec.cuda.tables import round_frequencies
from polycodec.errors import ModelError


def cost(p: np.ndarray, f: np.ndarray) -> float:
    return float(-(p * np.log2(f / f.sum())).sum())


def test_rounding_is_the_cheapest_of_all():
    rng = np.random.default_rng(0)
    for _ in range(12):
        p = rng.gamma(0.3, size=4) + 1e-12
        p /= p.sum()
        f = round_frequencies(p, 24)
        every = itertools.product(range(1, 22), repeat=3)
        best = min(
            cost(p, np.array([*three, 24 - sum(three)]))
            for three in every
            if sum(three) < 24
        )
        assert f.sum() == 24 and f.min() >= 1
        assert cost(p, f) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("weights", [[1], [0, 0, 1], [1] * 256, [1e-300, 1], [1] * 7])
def test_rounding_at_the_edges(weights):
    f = round_frequencies(np.array(weights, float), 256)
    assert f.sum() == 256 and f.min() >= 1


def test_from_pmfs_lays_out_slots():
    tables = TableSet.from_pmfs([[1.0, 3.0], [5.0]], [-1, 9], 8, [None, None])
    assert tables.sizes.tolist() == [3, 2]
    assert tables.freqs.tolist() == [0, 64, 192, 0, 256]
    assert tables.maximum.tolist() == [0, 9]
    assert not tables.has_escape.any()
    escaping = TableSet.from_pmfs([[0.5, 0.25]], [4], 8, [0.25])
    assert escaping.freqs.tolist() == [64, 128, 64]
    # 1 bit, 2 bits, and 2 + 16 for a value outside
    assert escaping.bits([4, 5, -7], [0, 0, 0]) == pytest.approx(21)


def test_arrays_round_trip_and_fingerprints_differ():
    tables = TableSet.from_pmfs([[1, 2, 3], [4, 5]], [0, 1], 10, [0.1, None])
    again = TableSet.from_arrays(tables.to_arrays())
    assert again.fingerprint() == tables.fingerprint()
    assert {a.dtype.name for a in tables.to_arrays().values()} == {"int32", "uint16"}
    arrays = tables.to_arrays()
    moved = arrays["freqs"].copy()
    moved[1], moved[2] = moved[2], moved[1]
    for change in ({"minimum": arrays["minimum"] + 1}, {"freqs": moved}):
        other = TableSet.from_arrays({**arrays, **change})
        assert other.fingerprint() != tables.fingerprint()


def test_tables_cannot_be_changed():
    tables = TableSet.from_pmfs([[1, 2]], [0], 8, None)
    with pytest.raises(ValueError):
        tables.freqs[1] = 7


@pytest.mark.parametrize(
    "change",
    [
        {"precision": 7},
        {"precision": 16},
        {"sizes": [3, 4]},  # freqs of another length
        {"sizes": [3, 1, 1]},
        {"sizes": [5, 0]},
        {"sizes": [-1, 6]},
        {"minimum": [0]},
        {"minimum": [0, 2**40]},
        # The last symbol exceeds 32 bits.
        {"sizes": [2, 3], "minimum": [0, 2**31 - 1], "freqs": [0, 256, 0, 128, 128]},
        {"minimum": [40_000, 0]},  # an escape is there, symbols exceed 16 bits
        {"freqs": [1, 128, 126, 0, 256]},  # sum
        {"freqs": [1, 255, 0, 0, 256]},  # empty symbol
        {"freqs": [1, -1, 256, 0, 256]},
        {"freqs": [1.0, 128.0, 127.0, 0.0, 256.0]},
        {"freqs": None},
    ],
)
def test_tables_that_are_not_valid(change):
    good = {
        "precision": 8,
        "sizes": [3, 2],
        "minimum": [0, 5],
        "freqs": [1, 128, 127, 0, 256],
    }
    TableSet.from_arrays(good)
    bad = {k: v for k, v in {**good, **change}.items() if v is not None}
    with pytest.raises(ModelError):
        TableSet.from_arrays(bad)


@pytest.mark.parametrize(
    ("pmfs", "minimum", "escape"),
    [
        ([[0.0, 0.0]], [0], None),
        ([[0.5, -0.5]], [0], None),
        ([[np.nan, 1.0]], [0], None),
        ([[1e308] * 3], [0], None),  # was [254, 1, 1]: their sum is infinite
        ([[1.0]], [0, 1], None),
        ([[1.0]], [0], [None, None]),
        ([np.ones(257)], [0], None),
        ([np.ones(256)], [0], [1e-3]),
        ([[1.0]], [0], [-1.0]),
    ],
)
def test_probabilities_that_make_no_table(pmfs, minimum, escape):
    with pytest.raises(ModelError):
        TableSet.from_pmfs(pmfs, minimum, 8, escape)


def test_crc32c_known_values():
    # RFC 3720, B.4, and the check value of the CRC catalogue.
    vectors = {
        b"": 0,
        b"123456789": 0xE3069283,
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
    }
    for data, value in vectors.items():
        assert crc32c(data) == crc32c_numpy(data) == value


@pytest.mark.parametrize("size", [1, 7, 8, 2047, 2048, 5000, 70_001])
def test_crc32c_all_ways_agree_and_continue(size):
    data = np.random.default_rng(size).bytes(size)
    value = crc32c_numpy(data)
    assert crc32c(data) == crc32c(memoryview(data)) == value
    assert crc32c(data[size // 3 :], crc32c(data[: size // 3])) == value
    assert crc32c_numpy(data[size // 3 :], crc32c_numpy(data[: size // 3])) == value
    if library() is not None:
        assert library().crc32c(data, plain=True) == value
