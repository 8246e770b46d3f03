# SPDX-License-Identifier: Apache-2.0
"""Threads that share what no one has used before, under ThreadSanitizer.

    python tests/fuzz/threads.py [--rounds 100] [--out DIR]

    the C library, built with -fsanitize=thread   ◄── ctypes ── 8 Python threads

Each round has fresh tables and scales; all threads encode and decode with them at once,
tables' passes on several threads of the library's own. The interpreter switches every
10 us. The sanitizer sees what the library reads and writes, all allocations and frees,
and the locks; it says what is not in order, and the exit status is then not 0. Last,
the control: an array that a call reads is freed too early, which must be reported.

Linux with a compiler that has the sanitizer; elsewhere it says so, and is no failure.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = ROOT / "cuda" / "host"
FLAGS = ("-fsanitize=thread", "-O1", "-g1", "-std=c++14", "-fPIC", "-shared", "-w")
FOUND = 66  # exit status of a process in which the sanitizer found something

WORK = """
import pathlib, sys, threading
import numpy as np
from polycodec.cuda.host import library, native, threads
library.PATH = pathlib.Path(sys.argv[1])
from polycodec.cuda import Mixture, ScaleSet, StreamDecoder, StreamEncoder, TableSet
assert library.loaded()

rounds, control = int(sys.argv[2]), sys.argv[3] == "control"
rng = np.random.default_rng(7)
pmfs = [rng.gamma(0.4, size=250) + 1e-3 for _ in range(40)]
arrays = TableSet.from_pmfs(pmfs, [-100] * 40, 12, [1e-2] * 40).to_arrays()
sigmas = ScaleSet.from_scales(np.exp(np.linspace(-1, 3, 64))).to_arrays()
indexes = rng.integers(0, 40, 4000).astype(np.uint8)
symbols = rng.integers(-120, 160, 4000).astype(np.int32)
means, bins = rng.integers(-900, 900, (1, 400)), rng.integers(0, 64, (1, 400))
values = np.rint(rng.normal(means[0] / 64, 2)).astype(np.int32)
threads.for_symbols = lambda n: 3  # the library's own threads, also for so few symbols

def code(tables, scales):
    encoder = StreamEncoder(backend="native")
    encoder.put(symbols, indexes, tables)
    encoder.put_prior(values, Mixture(scales, means, bins))
    data = encoder.finish(lanes=16, chunks=6, crc="chunk")
    decoder = StreamDecoder(data, backend="native")
    found = decoder.get(indexes, tables)
    again = decoder.get_prior(Mixture(scales, means, bins))
    decoder.finish()
    assert np.array_equal(found, symbols) and np.array_equal(again, values)
    return data

def cold():
    return TableSet.from_arrays(arrays), ScaleSet.from_arrays(sigmas)

wanted, wrong = code(*cold()), []
sys.setswitchinterval(1e-5)
for _ in range(rounds):
    sets, start = cold(), threading.Barrier(8)
    def work():
        start.wait()
        try:
            if code(*sets) != wanted:
                wrong.append("other bytes than one thread alone")
        except BaseException as error:
            wrong.append(repr(error))
    workers = [threading.Thread(target=work) for _ in range(8)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
print(f"{rounds} rounds of 8 threads: {len(wrong)} wrong", *wrong[:1], flush=True)
if control:
    # What must not be: one thread reads an array that another one lets go.
    data = np.zeros(1 << 20, np.uint8)
    address, size, ready = data.ctypes.data, data.size, threading.Event()
    def read():
        ready.set()
        for _ in range(200):
            library.loaded()._crc32c(address, size, 0, 1)
    reader = threading.Thread(target=read)
    reader.start()
    ready.wait()
    del data
    reader.join()
sys.exit(1 if wrong else 0)
"""


def build(out: pathlib.Path) -> str:
    """Compile the library for the sanitizer; return why not, or nothing."""
    sources = sorted(map(str, HOST.glob("*.cpp")))
    command = [os.environ.get("CXX", "g++"), *FLAGS, *sources, "-o", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


def run(library: pathlib.Path, rounds: int, kind: str) -> subprocess.CompletedProcess:
    """Let the threads work in a process with the sanitizer's runtime."""
    compiler = os.environ.get("CXX", "g++")
    asked = [compiler, "-print-file-name=libtsan.so"]
    runtime = subprocess.run(asked, capture_output=True, text=True, check=True)
    env = {
        **os.environ,
        "LD_PRELOAD": str(pathlib.Path(runtime.stdout.strip()).resolve()),
    }
    env["TSAN_OPTIONS"] = f"exitcode={FOUND} report_thread_leaks=0"
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WORK, str(library), str(rounds), kind]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def main() -> int:
    """Build, run, and run the control; 1 when something is not in order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = (options.out or pathlib.Path(folder)).resolve() / "_rans_tsan.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        reason = build(library)
        if reason:
            print(f"no ThreadSanitizer here: {reason}")
            return 0
        done = run(library, options.rounds, "work")
        print(done.stdout.strip(), done.stderr[-3000:], sep="\n")
        print(f"exit status {done.returncode}; {done.stderr.count('WARNING')} reports")
        control = run(library, 1, "control")
        seen = control.returncode == FOUND and "ThreadSanitizer" in control.stderr
        print(f"the control was {'reported' if seen else 'NOT reported'}")
        return int(done.returncode != 0 or not seen)


if __name__ == "__main__":
    sys.exit(main())
