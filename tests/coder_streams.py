# SPDX-License-Identifier: Apache-2.0
"""What the tests of the range coder share: passes, back ends, the golden streams.

pass = (tables, symbols, indexes)     passes ── encode ──► bytes ── decode ──► symbols
"""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np
from hypothesis import strategies as st

from polycodec.cuda import StreamDecoder, StreamEncoder, TableSet
from polycodec.cuda.host.library import SIMD

GOLDEN = json.loads(
    (pathlib.Path(__file__).parent / "golden" / "coder.json").read_text()
)
LANES = [0, 1, 2, 4, 8, 16, 32]
# What a property test asks for; a stream of 0 lanes has one chunk.
SHAPES = {
    "seed": st.integers(0, 2**32 - 1),
    "lanes": st.sampled_from([None, *LANES]),
    "crc": st.sampled_from(["none", "stream", "chunk"]),
}


def golden_stream(case: dict) -> tuple[list[tuple], dict, bytes]:
    """Passes, options and bytes of one of ``GOLDEN["cases"]``."""
    tables = {name: TableSet.from_arrays(t) for name, t in GOLDEN["tables"].items()}
    passes = [
        (
            tables[one["tables"]],
            np.array(one["symbols"], np.int32),
            np.array(one["indexes"], np.uint8),
        )
        for one in case["passes"]
    ]
    options = {name: case[name] for name in ("lanes", "chunks", "crc")}
    return passes, options, bytes.fromhex(case["hex"])


def force(name: str) -> str:
    """The back end of ``name``; of a SIMD level, which becomes the one in use.

    A test that names a level uses the fixture `coder_settings`.
    """
    if name not in SIMD:
        return name
    os.environ["POLYCODEC_SIMD"] = name
    return "native"


def encode(passes, name: str = "auto", **options) -> bytes:
    """The stream of the passes, by the back end or SIMD level ``name``."""
    encoder = StreamEncoder(backend=force(name))
    for tables, symbols, indexes in passes:
        encoder.put(symbols, indexes, tables)
    return encoder.finish(**options)


def decode(data: bytes, passes, name: str = "auto") -> list[np.ndarray]:
    """The symbols of every pass, by the back end or SIMD level ``name``."""
    decoder = StreamDecoder(data, backend=force(name))
    out = [decoder.get(indexes, tables) for tables, _, indexes in passes]
    decoder.finish()
    return out


def assert_decodes(data: bytes, passes, name: str = "auto") -> None:
    for found, (_, symbols, _) in zip(decode(data, passes, name), passes, strict=True):
        np.testing.assert_array_equal(found, symbols, name)


def random_tables(rng, precision: int, count: int) -> TableSet:
    """Tables of all shapes: one symbol or many, flat or peaked, with escape or not."""
    pmfs, minimum, tails = [], [], []
    for _ in range(count):
        size = int(rng.choice([1, 2, 5, 40, min(400, (1 << precision) - 2)]))
        pmfs.append(rng.gamma(0.3, size=size) + 1e-9)
        minimum.append(int(rng.integers(-300, 300)))
        tails.append(pmfs[-1].sum() / 20 if rng.random() < 0.5 else None)
    return TableSet.from_pmfs(pmfs, minimum, precision, tails)


def random_pass(rng, tables: TableSet, n: int, dtype=np.int32) -> tuple:
    """Draw symbols from the tables themselves, so that words and escapes occur."""
    indexes = rng.integers(0, len(tables), n)
    values = rng.integers(0, 1 << tables.precision, n)
    ends = np.cumsum(tables.freqs, dtype=np.int64)
    row = np.searchsorted(ends, values + (indexes << tables.precision), side="right")
    symbols, escaped = tables.symbols[row], tables.is_escape[row]
    symbols[escaped] = rng.choice([-32768, -5000, 5000, 32767], escaped.sum())
    return tables, symbols, indexes.astype(dtype)


def edge_pass(precision: int, n: int) -> tuple:
    """Frequencies of one and of all, in three tables."""
    whole = 1 << precision
    freqs = [1, whole - 2, 1, 0, whole, whole - 1, 1]
    tables = TableSet(precision, [3, 2, 2], [-1, 4, 0], freqs)
    rng = np.random.default_rng(precision)
    indexes = rng.integers(0, 3, n).astype(np.uint8)
    symbols = np.choose(indexes, [rng.integers(-3, 4, n), 4, 0]).astype(np.int32)
    return tables, symbols, indexes
