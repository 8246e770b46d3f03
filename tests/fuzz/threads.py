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

WORK = ROOT / "tests" / "cold_threads.py"


def build(out: pathlib.Path) -> str:
    """Compile the library for the sanitizer; return why not, or nothing."""
    sources = sorted(map(str, HOST.glob("*.cpp")))
    command = [os.environ.get("CXX", "g++"), *FLAGS, *sources, "-o", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


def run(library: pathlib.Path, rounds: int, *more: str) -> subprocess.CompletedProcess:
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
    command = [sys.executable, str(WORK), "native", str(rounds), "--symbols", "4000"]
    command += ["--library", str(library), *more]
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
        done = run(library, options.rounds)
        print(done.stdout.strip(), done.stderr[-3000:], sep="\n")
        print(f"exit status {done.returncode}; {done.stderr.count('WARNING')} reports")
        control = run(library, 1, "--control")
        seen = control.returncode == FOUND and "ThreadSanitizer" in control.stderr
        print(f"the control was {'reported' if seen else 'NOT reported'}")
        return int(done.returncode != 0 or not seen)


if __name__ == "__main__":
    sys.exit(main())
