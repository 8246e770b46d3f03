# SPDX-License-Identifier: Apache-2.0
"""Interval coding: what goes in comes out, in no more bytes than it must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polycodec.cuda import TableSet
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.intervals import IntervalReader, IntervalWriter
from polycodec.entropy_models.priors.categorical import Categorical, Indexed
from polycodec.errors import BitstreamError, ModelError

SIZES = (3, 256, 40)


@pytest.fixture(scope="module")
def tables() -> TableSet:
    rng = np.random.default_rng(0)
    return TableSet.from_pmfs([rng.random(n) ** 4 for n in SIZES], [0] * 3, 15)


def passes(tables: TableSet, symbols: torch.Tensor, logits: np.ndarray):
    """Two passes of three streams: by tables, and by a distribution each."""
    index = torch.arange(3).view(1, 3, 1)
    return [
        (symbols, Indexed(tables, index), tuple(symbols.shape)),
        (symbols[:, 0], Categorical(logits), tuple(symbols[:, 0].shape)),
    ]


def test_symbols_come_back_in_as_few_bytes_as_they_need(tables):
    rng = np.random.default_rng(1)
    symbols = torch.from_numpy(
        np.stack([rng.integers(0, n, (3, 5)) for n in SIZES], axis=1)
    )
    logits = rng.integers(-300, 0, (3, 5, 3)).astype(np.int16)
    writer = IntervalWriter(3)
    writer.put_number(4, 7)
    encoder = RangeEncoder(3, writer=writer, estimate=True)
    for given, prior, shape in passes(tables, symbols, logits):
        encoder.code(given, prior, shape)
    data = encoder.finish()
    for item, bits in zip(data, encoder.estimated_bits, strict=True):
        assert bits + np.log2(7) - 16 < 8 * len(item) < bits + np.log2(7) + 8.1
    reader = IntervalReader(data)
    assert reader.get_number(7) == [4, 4, 4]
    for places in ([0, 1, 2], [2, 0]):
        decoder = RangeDecoder([], reader=again(data).only(places))
        for given, prior, shape in passes(tables, symbols[places], logits[places]):
            assert torch.equal(decoder.code(None, prior, shape).long(), given)
        decoder.finish()


def test_an_interval_that_begins_at_zero_takes_what_its_width_asks():
    """Fewer bytes would lead there too, but readers refuse them."""
    writer = IntervalWriter(1)
    for _ in range(10):
        writer.put_number(0, 256)
    assert writer.finish() == [bytes(10)]
    reader = IntervalReader([b""])
    assert [reader.get_number(256) for _ in range(10)] == [[0]] * 10
    with pytest.raises(BitstreamError, match="not those"):
        reader.finish()


def again(data: list[bytes]) -> IntervalReader:
    reader = IntervalReader(data)
    reader.get_number(7)
    return reader


def test_what_is_certain_costs_nothing():
    certain = TableSet.from_pmfs([np.ones(1)], [0], 15)
    writer = IntervalWriter(2)
    zeros = torch.zeros(2, 500, dtype=torch.int32)
    writer.put(zeros, zeros, certain, None)
    assert writer.finish() == [b"", b""]
    reader = IntervalReader([b"", b""])
    assert torch.equal(reader.get(zeros, certain, None), zeros)
    reader.finish()


def test_bytes_that_no_encoder_writes_are_refused(tables):
    """Any bytes decode to something; most of them are not the shortest way to it."""
    rng, refused = np.random.default_rng(2), 0
    index = torch.ones(1, 4, dtype=torch.int32)
    for size in range(0, 12):
        for _ in range(20):
            reader = IntervalReader([rng.bytes(size)])
            found = reader.get(index, tables, None)
            assert 0 <= int(found.min()) <= int(found.max()) < 256
            try:
                reader.finish()
            except BitstreamError:
                refused += 1
    assert refused > 200


def test_what_does_not_fit_into_packets_is_named():
    open_ended = TableSet.from_pmfs([np.ones(3)], [-1], 15, escape=[0.1])
    zeros = torch.zeros(1, 2, dtype=torch.int32)
    with pytest.raises(ModelError, match="token"):
        IntervalWriter(1).put(zeros, zeros, open_ended, None)
    with pytest.raises(ModelError, match="token"):
        IntervalReader([b""]).get(zeros, open_ended, None)
