# SPDX-License-Identifier: Apache-2.0
"""Quantizers of weights: their error on unit Gaussian numbers, and what they promise.

Expected errors are of published tables (QTIP, arXiv 2406.11235, tables 1 and 2, tail
biting with 12-bit states: .2803 .0733 .0198 at 1, 2 and 3 bits) with room for the
small sample; scalar and E8 are held to the moments of their cells.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from polycodec.codecs.quantizers.weights import entropy, viterbi
from polycodec.codecs.quantizers.weights.rotation import (
    hadamard,
    rotated,
    turned_back,
)
from polycodec.errors import ModelError
from polycodec.registry import build, names

EVERY = [name.partition("/")[2] for name in names("weights/*")]
GAUSSIAN = np.random.default_rng(3).standard_normal((32, 256))


def coded(name: str, w: np.ndarray, setting: int) -> tuple[float, float]:
    """Bits a number, and the error over the energy."""
    quantizer = build(f"weights/{name}")
    data = quantizer.encode(w, setting)
    back = quantizer.decode(data, w.shape)
    return 8 * len(data) / w.size, float(np.square(w - back).sum() / np.square(w).sum())


@pytest.mark.parametrize(
    ("quarters", "most"),
    [(4, 0.290), (6, 0.150), (8, 0.076), (9, 0.061), (12, 0.0202), (16, 0.0055)],
)
def test_the_trellis_comes_near_the_published_errors(quarters, most):
    bits, error = coded("trellis", GAUSSIAN, quarters)
    assert bits == pytest.approx(quarters / 4, abs=0.02)
    assert 2 ** (-2 * bits) < error < most


@pytest.mark.parametrize(("name", "gap"), [("scalar", 1.53), ("lattice", 0.88)])
def test_lattices_are_as_far_from_the_bound_as_their_cells(name, gap):
    bits, error = coded(name, GAUSSIAN, -12)
    assert 10 * np.log10(error * 2 ** (2 * bits)) == pytest.approx(gap, abs=0.25)


def test_torch_and_the_library_find_paths_as_good(monkeypatch):
    x = (GAUSSIAN[:4] * viterbi.SPREAD).astype(np.float32)
    errors = []
    for _ in range(2):
        fresh = viterbi.search(x, 10, 3, 2)
        path = viterbi.states(fresh, 10, 3)
        back = viterbi.code(10, 2)[path].reshape(x.shape)
        errors.append(float(np.square(x - back).sum()))
        monkeypatch.setattr(viterbi, "library", lambda: None)
    assert errors[0] == pytest.approx(errors[1], rel=0.01)


def test_a_path_of_states_shifts_and_closes():
    fresh = np.random.default_rng(0).integers(0, 4, (2, 20)).astype(np.uint8)
    path = viterbi.states(fresh, 9, 2)
    after = np.roll(path, -1, axis=1)
    assert np.array_equal(after >> 2, path & 127)
    assert np.array_equal(path & 3, fresh)


def test_the_rotation_is_undone_in_integers():
    w = GAUSSIAN[:3, :100]
    x = rotated(w, 5)
    assert np.square(x).sum() == pytest.approx(np.square(w).sum())
    assert np.allclose(turned_back(x, 5, w.size) / 16, w.reshape(-1))
    whole = np.arange(512, dtype=np.int32).reshape(2, 256)
    assert np.array_equal(hadamard(hadamard(whole)), 256 * whole)


# Settings that the quantizer's own offers would contain, and a tensor of outliers.
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(1, 64), (3, 7), (16, 40), (5, 800)])
def test_offers_say_what_coding_does(name, shape):
    w = np.random.default_rng(1).laplace(0, 0.02, shape)
    w[0, 0] = 3.0
    quantizer = build(f"weights/{name}")
    offers = quantizer.offers(w)
    for offer in offers[:: max(1, len(offers) // 4)]:
        data = quantizer.encode(w, offer.setting)
        back = quantizer.decode(data, shape)
        assert back.shape == shape and back.dtype == np.float64
        assert len(data) <= 1.3 * offer.bytes + 40
        if name != "trellis" and w.size < 1 << 14:
            error = float(np.square(w - back).sum())
            assert error == pytest.approx(offer.error, rel=0.01)


@pytest.mark.parametrize("name", EVERY)
def test_zeros_come_back(name):
    quantizer, w = build(f"weights/{name}"), np.zeros((4, 64))
    for offer in quantizer.offers(w)[:3]:
        data = quantizer.encode(w, offer.setting)
        assert np.abs(quantizer.decode(data, w.shape)).max() < 1e-25


# Frames of a clip that hardly moves: what a value is beyond the one before is little,
# and errors do not add up from row to row.
@pytest.mark.parametrize("name", ["scalar", "lattice"])
def test_rows_that_follow_each_other_are_coded_as_changes(name):
    quantizer, noise = build(f"weights/{name}"), np.random.default_rng(3)
    apart = noise.normal(0, 1, (64, 135))
    slow = np.cumsum(0.05 * apart, axis=0) + noise.normal(0, 2, (1, 135))
    w = slow * np.sqrt(np.square(apart).mean() / np.square(slow).mean())
    sizes, errors = [], []
    for one in (apart, w):
        data = quantizer.encode(one, -16)
        sizes.append(len(data))
        errors.append(np.square(one - quantizer.decode(data, one.shape)).mean(1))
    assert sizes[1] < 0.6 * sizes[0]
    assert errors[1].mean() == pytest.approx(errors[0].mean(), rel=0.05)
    assert errors[1][32:].mean() == pytest.approx(errors[1][:32].mean(), rel=0.1)


# Whoever changes one of these changes weights that exist: a new name is needed.
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("scalar", "f4ff0002a6d16f050f3dd8304b86"),
        ("lattice", "f4ff000266d03b768dd002c7cbd7"),
    ],
)
def test_decoded_lattices_are_pinned(name, data):
    back = build(f"weights/{name}").decode(bytes.fromhex(data), (2, 8)) * 8
    fifth = 4 if name == "scalar" else 5
    assert back.tolist() == [
        [0, 1, -2, 3, fifth, -1, 0, 0],
        [7, -6, 2, 1, 0, 0, -3, -11],
    ]


@pytest.mark.parametrize(
    ("quarters", "size", "crc"), [(9, 208, 3473094867), (14, 352, 3777394264)]
)
def test_decoded_trellises_are_pinned(quarters, size, crc):
    path = bytes((i * i * 37 + 11 * i + 5) % 256 for i in range(size))
    data = bytes([quarters, 12, 1, 0, 256 - 20, 0x93]) + path
    back = build("weights/trellis").decode(data, (3, 256)) * 2**30
    assert np.array_equal(back, np.floor(back))
    assert zlib.crc32(back.astype("<i8").tobytes()) == crc


@pytest.mark.parametrize("name", EVERY)
def test_damaged_bytes_are_named_or_decode(name):
    quantizer, w = build(f"weights/{name}"), GAUSSIAN[:2]
    data = quantizer.encode(w, quantizer.offers(w)[5].setting)
    rng = np.random.default_rng(2)
    for trial in range(150):
        bad = bytearray(data)
        for _ in range(1 + trial % 3):
            bad[rng.integers(min(len(bad), 40 if trial % 2 else len(bad)))] ^= 1 << (
                trial % 8
            )
        if trial % 5 == 0:
            bad = bad[: rng.integers(len(bad))]
        try:
            back = quantizer.decode(bytes(bad), w.shape)
        except ModelError as error:
            assert "damaged" in str(error)
        else:
            assert np.isfinite(back).all()


def test_scales_are_the_same_integers_as_ever():
    found = entropy.scales()
    assert found.reciprocal[:3].tolist() == [16777216, 13421773, 11184811]
    assert found.fingerprint() == 4236373206
