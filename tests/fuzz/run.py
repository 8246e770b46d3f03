# SPDX-License-Identifier: Apache-2.0
"""Build the C library under ASan and UBSan, and fuzz it for so many seconds.

    python tests/fuzz/run.py [--seconds 30] [--seed 1] [--out DIR]

With clang++ it is a libFuzzer target and prints its coverage; with another compiler
(CXX, or c++) it brings a loop of its own and `--gcov` prints the lines that it
reached. A finding stays in DIR and comes back with `DIR/fuzz_coder FILE`.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CODER = HERE.parent.parent / "cuda"
SOURCES = (
    *("rans_host.cpp", "rans_scalar.cpp", "rans_avx2.cpp"),
    *("rans_avx512_decode.cpp", "rans_avx512_encode.cpp"),
)
FLAGS = ("-std=c++14", "-g1", "-O1", "-w", "-pthread", f"-I{CODER}")


def main() -> int:
    """Build and run; returns the fuzzer's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "build")
    parser.add_argument("--gcov", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX") or shutil.which("clang++") or "c++"
    own = "clang" not in pathlib.Path(compiler).name
    kinds = "address,undefined" if own else "fuzzer,address,undefined"
    sources = [HERE / "fuzz_coder.cpp", *(CODER / name for name in SOURCES)]
    command = [compiler, *FLAGS, f"-fsanitize={kinds}", "-fno-sanitize-recover=all"]
    command += ["-DSTANDALONE"] * own + ["--coverage"] * options.gcov
    command += [*map(str, sources), "-o", "fuzz_coder"]
    print(*command, file=sys.stderr, flush=True)
    subprocess.run(command, cwd=options.out, check=True)
    if own:
        args = [str(options.seconds), str(options.seed)]
    else:
        args = [f"-max_total_time={options.seconds}", f"-seed={options.seed}"]
    status = subprocess.run(["./fuzz_coder", *args], cwd=options.out, check=False)
    if options.gcov:
        notes = [str(path.name) for path in options.out.glob("*.gcda")]
        subprocess.run(["gcov", "-n", *notes], cwd=options.out, check=False)
    return status.returncode


if __name__ == "__main__":
    sys.exit(main())
