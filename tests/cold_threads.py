# SPDX-License-Identifier: Apache-2.0
"""Eight threads that code with tables and priors which no one has used before.

    python tests/cold_threads.py BACKEND ROUNDS [--symbols N] [--library F] [--control]

Each round has fresh tables and scales; all threads encode and decode with them at once,
the interpreter switching every 10 us, and must write what one thread alone writes. Run
in a process of its own: what goes wrong here may well end it. With ``--library`` that
build of the C library works, on threads of its own too; the control lets an array go
while a call reads it, for a sanitizer to report.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import threading

import numpy as np

from polycodec.cuda import Mixture, ScaleSet, StreamDecoder, StreamEncoder, TableSet
from polycodec.cuda.host import library, threads


def free_too_early() -> None:
    """One thread reads an array that another one lets go."""
    data = np.zeros(1 << 20, np.uint8)
    address, size, ready = data.ctypes.data, data.size, threading.Event()

    def read() -> None:
        ready.set()
        for _ in range(200):
            library.loaded()._crc32c(address, size, 0, 1)

    reader = threading.Thread(target=read)
    reader.start()
    ready.wait()
    del data
    reader.join()


def chosen() -> argparse.Namespace:
    """The command line; another library is in its place afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--symbols", type=int, default=900)
    parser.add_argument("--library", type=pathlib.Path)
    parser.add_argument("--control", action="store_true")
    options = parser.parse_args()
    if options.library:
        library.PATH = options.library
        assert library.loaded()
        threads.for_symbols = lambda n: 3  # also for so few symbols
    return options


def main() -> int:
    """Return 1 where a thread wrote other bytes, or failed."""
    options = chosen()
    rng, count = np.random.default_rng(7), options.symbols
    pmfs = [rng.gamma(0.4, size=250) + 1e-3 for _ in range(40)]
    arrays = TableSet.from_pmfs(pmfs, [-100] * 40, 12, [1e-2] * 40).to_arrays()
    sigmas = ScaleSet.from_scales(np.exp(np.linspace(-1, 3, 64))).to_arrays()
    indexes = rng.integers(0, 40, count).astype(np.uint8)
    symbols = rng.integers(-120, 160, count).astype(np.int32)
    few = (1, count // 5)
    means, bins = rng.integers(-900, 900, few), rng.integers(0, 64, few)
    values = np.rint(rng.normal(means[0] / 64, 2)).astype(np.int32)

    def cold() -> tuple[TableSet, ScaleSet]:
        return TableSet.from_arrays(arrays), ScaleSet.from_arrays(sigmas)

    def code(tables: TableSet, scales: ScaleSet) -> bytes:
        encoder = StreamEncoder(backend=options.backend)
        encoder.put(symbols, indexes, tables)
        encoder.put_prior(values, Mixture(scales, means, bins))
        data = encoder.finish(lanes=16, chunks=6, crc="chunk")
        decoder = StreamDecoder(data, backend=options.backend)
        found = decoder.get(indexes, tables)
        again = decoder.get_prior(Mixture(scales, means, bins))
        decoder.finish()
        assert np.array_equal(found, symbols) and np.array_equal(again, values)
        return data

    wanted, wrong = code(*cold()), []

    def work(start: threading.Barrier, sets: tuple[TableSet, ScaleSet]) -> None:
        start.wait()
        try:
            if any(code(*sets) != wanted for _ in range(2)):
                wrong.append("other bytes than one thread alone")
        except BaseException as error:
            wrong.append(repr(error))

    sys.setswitchinterval(1e-5)
    for _ in range(options.rounds):
        given = threading.Barrier(8), cold()
        workers = [threading.Thread(target=work, args=given) for _ in range(8)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
    print(f"{options.rounds} rounds of 8 threads: {len(wrong)} wrong", *wrong[:1])
    sys.stdout.flush()
    if options.control:
        free_too_early()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
