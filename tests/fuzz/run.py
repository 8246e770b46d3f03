# SPDX-License-Identifier: Apache-2.0
"""Build the range coder under ASan and UBSan, and fuzz it for so many seconds.

    python tests/fuzz/run.py [coder|priors|device] [--seconds 10] [--seed 1] [--out DIR]

    coder    the C library: its levels (portable, AVX2, AVX-512) must agree
    priors   the same of passes with priors (mixtures, categorical)
    device   the CUDA kernels, run on the host by tests/emulation.cpp, must agree
             with it, about tables and priors

All by default, on the same inputs, each for so many seconds. With clang++ they are
libFuzzer targets and print their coverage; with another compiler (CXX, or c++) they
bring a loop of their own and `--gcov` prints the lines that it reached. A finding stays
in DIR and comes back with `DIR/fuzz_coder FILE`. Exit status 1: a finding; a compiler
without sanitizers is said, and no failure.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
CODER = HERE.parent.parent / "cuda"
LIBRARY = sorted((CODER / "host").glob("*.cpp"))
# What each needs besides.
TARGETS = {"coder": (), "priors": (), "device": (HERE.parent / "emulation.cpp",)}
FLAGS = ("-std=c++14", "-g1", "-O1", "-w", "-pthread", f"-I{CODER}")
REPEAT = "-fno-sanitize-recover=all"


def sources_of(target: str) -> list[pathlib.Path]:
    """What a target is made of."""
    return [HERE / f"{target}.cpp", *LIBRARY, *TARGETS[target]]


def object_of(source: pathlib.Path) -> str:
    """The name of a source's object: two folders have a priors.cpp."""
    return f"{source.parent.name}-{source.stem}.o"


class Build:
    """Compiles each source once, in a folder."""

    def __init__(self, out: pathlib.Path, *, gcov: bool) -> None:
        self.out = out
        self.compiler = os.environ.get("CXX") or shutil.which("clang++") or "c++"
        self.own = "clang" not in pathlib.Path(self.compiler).name
        kinds = "address,undefined" if self.own else "fuzzer,address,undefined"
        self.flags = [*FLAGS, f"-fsanitize={kinds}", REPEAT]
        self.flags += ["-DSTANDALONE"] * self.own + ["--coverage"] * gcov

    def works(self) -> str:
        """Why this compiler cannot build with sanitizers, or nothing."""
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "empty.cpp"
            source.write_text(
                'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, '
                "unsigned long) { return 0; }\n#if defined(STANDALONE)\n"
                "int main() { return 0; }\n#endif\n"
            )
            command = [self.compiler, *self.flags, str(source), "-o", "empty"]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True)
            except OSError as error:
                return str(error)
            return done.stderr.decode(errors="replace") if done.returncode else ""

    def compile(self, source: pathlib.Path) -> None:
        """Make a source's object."""
        name = object_of(source)
        self._run([self.compiler, *self.flags, "-c", str(source), "-o", name])

    def targets(self, names: list[str]) -> None:
        """Compile what the targets need, side by side, and link them."""
        needs = {name: sources_of(name) for name in names}
        every = sorted({source for sources in needs.values() for source in sources})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.compile, every))
        for name, sources in needs.items():
            objects = [object_of(source) for source in sources]
            command = [self.compiler, *self.flags, *objects, "-o", f"fuzz_{name}"]
            self._run(command)

    def fuzz(self, name: str, seconds: int, seed: int) -> int:
        """Run a target; returns its exit status."""
        args = [f"-max_total_time={seconds}", f"-seed={seed}"]
        if self.own:
            args = [str(seconds), str(seed)]
        print(f"fuzz_{name}:", end=" ", flush=True)
        command = [f"./fuzz_{name}", *args]
        return subprocess.run(command, cwd=self.out, check=False).returncode

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, cwd=self.out, check=True)


def main() -> int:
    """Build and run; 1 when a target found something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="coder, priors, device; or all")
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "build")
    parser.add_argument("--gcov", action="store_true")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {sorted(unknown)}; expected {' or '.join(TARGETS)}")
    build = Build(options.out.resolve(), gcov=options.gcov)
    build.out.mkdir(parents=True, exist_ok=True)
    reason = build.works()
    if reason:
        print(f"no fuzzing: {build.compiler} has no sanitizers here: {reason}")
        return 0
    failed, names = 0, options.targets or list(TARGETS)
    build.targets(names)
    for name in names:
        failed += build.fuzz(name, options.seconds, options.seed) != 0
    if options.gcov:
        notes = [path.name for path in build.out.glob("*.gcda")]
        subprocess.run(["gcov", "-n", *notes], cwd=build.out, check=False)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
