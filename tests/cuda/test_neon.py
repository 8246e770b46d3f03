# SPDX-License-Identifier: Apache-2.0
"""The C library for AArch64 on another machine: cross-compiled, run by an emulator.

    NumPy ── streams ──► file ──► fuzz/cross_streams.cpp under qemu: portable = NEON

Golden streams, random ones and damaged ones, then the fuzz target with its guarded
pages. Skipped without a cross compiler and qemu (Debian: g++-aarch64-linux-gnu,
qemu-user-static). POLYCODEC_TEST_CASES=1000 runs more random cases. On an AArch64
machine test_simd.py does all this natively.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from coder_streams import (
    GOLDEN,
    LANES,
    edge_pass,
    encode,
    golden_stream,
    random_pass,
    random_tables,
)

from polycodec.cuda import StreamDecoder
from polycodec.cuda.host import build, layouts
from polycodec.cuda.host.layouts import prepare

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILER = shutil.which("aarch64-linux-gnu-g++")
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
CASES = int(os.environ.get("POLYCODEC_TEST_CASES", "60"))
FUZZ_SECONDS = "3"
ARRAYS = (
    *("first", "minimum", "has_escape", "costs", "rows", "packed", "wide"),
    *("numbers", "starts", "starts_of", "guess", "base", "range", "below"),
)
pytestmark = [
    pytest.mark.usefixtures("coder_settings"),
    pytest.mark.skipif(not COMPILER, reason="no aarch64-linux-gnu-g++"),
    pytest.mark.skipif(not QEMU, reason="no qemu-aarch64"),
]


@pytest.fixture(autouse=True)
def layouts_of_aarch64(monkeypatch):
    monkeypatch.setattr(layouts, "_FOLDED", False)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """Run a target of tests/fuzz on AArch64; both are linked with the library."""
    folder = tmp_path_factory.mktemp("aarch64")
    library = [str(ROOT / "cuda" / "host" / name) for name in build.SOURCES]
    objects = [str(folder / f"{pathlib.Path(name).stem}.o") for name in library]
    flags = ["-std=c++14", "-w", "-pthread", f"-I{ROOT / 'cuda'}"]
    for source, target in zip(library, objects, strict=True):
        speed = "-O3" if "neon" in source else "-O1"  # -O1 compiles faster
        compile_it(*flags, speed, "-c", source, "-o", target)

    def run(name: str, *arguments: str) -> str:
        program, source = folder / name, ROOT / "tests" / "fuzz" / f"{name}.cpp"
        if not program.exists():
            own = ["-O1", "-static", *["-DSTANDALONE"] * (name == "coder")]
            compile_it(*flags, *own, str(source), *objects, "-o", str(program))
        done = subprocess.run(
            [QEMU, str(program), *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def compile_it(*arguments: str) -> None:
    done = subprocess.run(
        [COMPILER, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def numbers(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()


def array(values: np.ndarray | None) -> bytes:
    """Its size in bytes, its bytes, and zeros up to a multiple of eight."""
    data = b"" if values is None else values.tobytes()
    return numbers(len(data)) + data + bytes(-len(data) % 8)


def case_of(passes: list[tuple], data: bytes) -> bytes:
    """A case as cross_streams.cpp reads it: the stream, taken apart, and its passes."""
    lanes = StreamDecoder(data, backend="numpy")._lanes
    out = [numbers(*lanes.states.shape, lanes.mini)]
    for name in ("states", "words", "word", "word_end", "side"):
        out.append(array(getattr(lanes, name)))
    out += [array(lanes.side_next), array(lanes.side_end), numbers(len(passes))]
    for tables, symbols, indexes in passes:
        struct = prepare(tables)
        out.append(numbers(struct.precision, struct.count, struct.guess_bits))
        out += [array(struct.arrays.get(name)) for name in ARRAYS]
        out += [numbers(indexes.itemsize), array(indexes), array(symbols)]
    return b"".join(out)


def golden_cases() -> list[bytes]:
    cases = []
    for case in GOLDEN["cases"]:
        passes, _, data = golden_stream(case)
        if data:  # no symbols at all are no stream
            cases.append(case_of(passes, data))
    return cases


def random_cases(count: int) -> list[bytes]:
    """Streams that NumPy coded, of all lane counts, precisions and layouts."""
    rng, cases = np.random.default_rng(5), []
    while len(cases) < count:
        lanes = int(rng.choice([*LANES, 8, 16, 32]))
        precision = int(rng.integers(8, 16))
        many = int(rng.choice([1, 3, 64, 65, 150]))
        tables = random_tables(
            rng, precision, many if precision <= 10 else 1 + many % 7
        )
        passes = [edge_pass(precision, int(rng.integers(1, 200)))]
        for dtype in (np.uint8, np.int32)[: int(rng.integers(1, 3))]:
            passes.append(random_pass(rng, tables, int(rng.integers(1, 600)), dtype))
        chunks = 1 if lanes == 0 else int(rng.integers(1, 4))
        data = encode(passes, "numpy", lanes=lanes, chunks=chunks)
        cases.append(case_of(passes, data))
    return cases


def coded(emulated, folder: pathlib.Path, cases: list[bytes]) -> list[int]:
    """How many levels, cases and damaged streams were the same, and errors noticed."""
    path = folder / "cases"
    path.write_bytes(numbers(len(cases)) + b"".join(cases))
    said = emulated("cross_streams", "cases", str(path))
    return [int(number) for number in re.findall(r"\d+", said)]


def test_golden_streams(emulated, tmp_path):
    cases = golden_cases()
    levels, found, damaged, errors = coded(emulated, tmp_path, cases)
    assert (levels, found, damaged) == (2, len(cases), 8 * len(cases))
    assert errors > 0, "no damage was ever noticed"


def test_random_streams(emulated, tmp_path):
    levels, found, damaged, errors = coded(emulated, tmp_path, random_cases(CASES))
    assert (levels, found, damaged) == (2, CASES, 8 * CASES)
    assert errors > 0, "no damage was ever noticed"


def test_fuzz_target_finds_nothing(emulated):
    said = emulated("coder", FUZZ_SECONDS)
    assert int(said.split()[0]) > 0 and "no finding" in said
