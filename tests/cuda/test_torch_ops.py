# SPDX-License-Identifier: Apache-2.0
"""The coder as torch operators: schemas, fakes, compiled and exported graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from emulation import Emulator, missing

from polycodec.cuda import StreamEncoder, TableSet
from polycodec.cuda.device import torch_ops
from polycodec.errors import InputError, TruncatedError


@pytest.fixture
def passes():
    """Symbols, indexes and packed tables of two passes of 3 streams."""
    rng = np.random.default_rng(2)
    pmfs = [rng.gamma(0.5, size=k) + 1e-6 for k in (3, 30, 200)]
    sets = [
        TableSet.from_pmfs(pmfs, [-1, -9, -99], 12, [None, 0.1, 0.01]),
        TableSet.from_pmfs(pmfs[1:], [0, 5], 14, None),
    ]
    symbols, indexes = [], []
    for tables, n, kind in zip(sets, (300, 41), (np.uint8, np.int32), strict=True):
        index = rng.integers(0, len(tables), (3, n)).astype(kind)
        value = tables.clamp(np.rint(rng.normal(0, 40, (3, n))), index)
        symbols.append(torch.from_numpy(value))
        indexes.append(torch.from_numpy(index))
    return symbols, indexes, [torch_ops.pack(tables) for tables in sets]


def round_trip(symbols, indexes, tables, lanes: int | None = None):
    data, sizes = torch_ops.encode(symbols, indexes, tables, lanes)
    return torch_ops.decode(data, sizes, indexes, tables), sizes


def assert_back(found, symbols) -> None:
    assert len(found) == len(symbols)
    assert all(torch.equal(a, b) for a, b in zip(found, symbols, strict=True))


@pytest.mark.parametrize("options", [{}, {"lanes": 32, "chunks": 40, "crc": "chunk"}])
def test_rows_are_the_streams(passes, options):
    symbols, indexes, tables = passes
    data, sizes = torch_ops.encode(*passes, **options)
    for b in range(3):
        encoder = StreamEncoder()
        for part, index, one in zip(symbols, indexes, tables, strict=True):
            encoder.put(part[b], index[b], torch_ops.unpack(one))
        wanted = encoder.finish(**options)
        assert bytes(data[b, : sizes[b]].tolist()) == wanted
    assert_back(torch_ops.decode(data, sizes, indexes, tables), symbols)


def test_capacity_holds_the_worst_case():
    tables = TableSet(15, [3], [0], [1, 1, 32766])  # 15 bits, or as many and 16 raw
    for symbol in (0, 9999):
        for n in (0, 1, 5, 40_000):
            symbols = torch.full((1, n), symbol, dtype=torch.int32)
            index = torch.zeros((1, n), dtype=torch.uint8)
            packed = torch_ops.pack(tables)
            for lanes, chunks in [(None, None), (0, 1), (32, 300)]:
                data, sizes = torch_ops.encode(
                    [symbols], [index], [packed], lanes, chunks, "chunk"
                )
                assert (
                    int(sizes) <= data.shape[1] == torch_ops.capacity(n, lanes, chunks)
                )


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_same_rows_from_a_device(passes, monkeypatch):
    wanted = torch_ops.encode(*passes)
    monkeypatch.setattr(torch_ops, "runtime_of", lambda _: Emulator())
    for found, rows in zip(torch_ops.encode(*passes), wanted, strict=True):
        assert torch.equal(found, rows)
    assert_back(torch_ops.decode(*wanted, *passes[1:]), passes[0])


def test_operators_are_registered_as_torch_wants_them(passes):
    symbols, indexes, tables = passes
    found = torch.library.opcheck(torch_ops.encode, (symbols, indexes, tables))
    assert found and set(found.values()) == {"SUCCESS"}
    data, sizes = torch_ops.encode(symbols, indexes, tables)
    found = torch.library.opcheck(torch_ops.decode, (data, sizes, indexes, tables))
    assert found and set(found.values()) == {"SUCCESS"}


def test_one_compiled_graph(passes):
    compiled = torch.compile(round_trip, fullgraph=True, backend="aot_eager")
    found, sizes = compiled(*passes, 4)
    assert_back(found, passes[0])
    assert torch.equal(sizes, round_trip(*passes, 4)[1])


class Module(torch.nn.Module):
    def __init__(self, tables):
        super().__init__()
        self.register_buffer("table", tables)

    def forward(self, symbols, indexes):
        found, sizes = round_trip([symbols], [indexes], [self.table])
        return found[0], sizes


def test_an_exported_program_codes(passes):
    symbols, indexes, tables = passes
    module, args = Module(tables[0]), (symbols[0], indexes[0])
    program = torch.export.export(module, args)
    assert "polycodec.encode" in str(program.graph)
    found, sizes = program.module()(*args)
    assert torch.equal(found, symbols[0])
    assert torch.equal(sizes, module(*args)[1])


def test_what_does_not_fit_is_named(passes):
    symbols, indexes, tables = passes
    with pytest.raises(InputError, match="every pass"):
        torch_ops.encode(symbols, indexes, tables[:1])
    with pytest.raises(InputError, match="one B"):
        torch_ops.encode([symbols[0][:2]], indexes[:1], tables[:1])
    with pytest.raises(InputError, match="pack"):
        torch_ops.encode(symbols[:1], indexes[:1], [torch.zeros(5, dtype=torch.int32)])
    with pytest.raises(InputError, match="cannot be coded"):
        torch_ops.encode([symbols[0] + 70_000], indexes[:1], tables[:1])
    data, sizes = torch_ops.encode(symbols, indexes, tables)
    with pytest.raises(TruncatedError):
        torch_ops.decode(data, sizes // 2, indexes, tables)
