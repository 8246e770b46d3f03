# SPDX-License-Identifier: Apache-2.0
"""Everything about the CUDA coder that only a GPU can answer, in one JSON.

    python docs/checks/gpu.py --out gpu.json                 on a machine with a GPU
    python docs/checks/gpu.py --emulate --out gpu.json       without: a dry run

    identity    golden and random streams, both ways: the CPU's bytes exactly
    exactness   entropy networks: files of the CPU decode to the same latents, and back
    sanitizer   compute-sanitizer's memcheck, racecheck and initcheck over identity
    speed       gpu_speed.py: throughput, time per step, latency of one image

What could not be run says "not yet measured"; a dry run measures no speed. A failed
part is reported under its name and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# At the end: NVIDIA's `cuda` package, which torch may import, goes before our folder.
sys.path.append(str(ROOT))

from polycodec.cuda import StreamEncoder, TableSet, backend, crc32c  # noqa: E402
from polycodec.cuda.device import BatchDecoder, BatchEncoder, Runtime  # noqa: E402
from polycodec.cuda.device_checksum import BatchChecksum  # noqa: E402

NOT_YET = "not yet measured"
PARTS = ("identity", "exactness", "sanitizer", "speed")
LIMIT = 240  # seconds for each tool
TOOLS = ("memcheck", "racecheck", "initcheck")


def to(device: Runtime, array: np.ndarray):
    """An array where the device's coders take it."""
    if not hasattr(device, "torch"):
        return array
    return device.torch.from_numpy(array).to(device.device)


def host(values) -> np.ndarray:
    """The reverse."""
    return values.cpu().numpy() if hasattr(values, "cpu") else np.asarray(values)


def same(device: Runtime, batch: list[list], **options) -> bool:
    """Whether the device writes the CPU's bytes and reads them back.

    batch: for each stream its passes (tables, symbols (n,) int32, indexes (n,)).
    """
    wanted = []
    for passes in batch:
        stream = StreamEncoder()
        for tables, symbols, indexes in passes:
            stream.put(symbols, indexes, tables)
        wanted.append(stream.finish(**options))
    encoder, decoder = BatchEncoder(len(batch), device), BatchDecoder(wanted, device)
    fine = True
    for parts in zip(*batch, strict=True):
        symbols, indexes = (np.stack([part[i] for part in parts]) for i in (1, 2))
        on_device = to(device, indexes)
        encoder.put(to(device, symbols), on_device, parts[0][0])
        found = decoder.get(on_device, parts[0][0])
        fine = fine and np.array_equal(host(found), symbols)
    decoder.finish()
    return fine and encoder.finish(**options) == wanted


def golden(device: Runtime) -> list[str]:
    """Names of the golden streams that are not coded to their bytes and back."""
    data = json.loads((ROOT / "tests" / "golden" / "coder.json").read_text())
    tables = {name: TableSet.from_arrays(t) for name, t in data["tables"].items()}
    wrong = []
    for case in data["cases"]:
        passes = [
            (
                tables[one["tables"]],
                np.array(one["symbols"], np.int32),
                np.array(one["indexes"], np.uint8),
            )
            for one in case["passes"]
        ]
        options = {name: case[name] for name in ("lanes", "chunks", "crc")}
        encoder = BatchEncoder(1, device)
        for one, symbols, indexes in passes:
            encoder.put(to(device, symbols[None]), to(device, indexes[None]), one)
        fine = encoder.finish(**options) == [bytes.fromhex(case["hex"])]
        if not fine or not same(device, [passes], **options):
            wrong.append(case["name"])
    return wrong


def random_case(rng: np.random.Generator, largest: int) -> tuple[list[list], dict]:
    """A batch of up to 4 streams of up to 3 passes, and options."""
    batch: list[list] = [[] for _ in range(rng.integers(1, 5))]
    for n in rng.integers(0, largest, rng.integers(1, 4)):
        precision = int(rng.integers(8, 16))
        pmfs = [
            rng.gamma(0.3, size=rng.choice([1, 2, 9, 60, 200])) + 1e-9 for _ in range(5)
        ]
        tails = [p.sum() / 30 if rng.random() < 0.5 else None for p in pmfs]
        tables = TableSet.from_pmfs(pmfs, rng.integers(-99, 99, 5), precision, tails)
        kind = rng.choice([np.uint8, np.int32])
        for passes in batch:
            indexes = rng.integers(0, 5, n).astype(kind)
            values = np.rint(rng.standard_cauchy(n) * 20).clip(-40_000, 40_000)
            passes.append((tables, tables.clamp(values, indexes), indexes))
    lanes = rng.choice([None, 0, 1, 2, 4, 8, 16, 32])
    chunks = 1 if lanes == 0 else rng.choice([None, 1, 2, 7, 40])
    return batch, {
        "lanes": lanes,
        "chunks": chunks,
        "crc": str(rng.choice(["none", "chunk"])),
    }


def identity(device: Runtime, cases: int) -> dict:
    """Count golden and random streams, and the ones that differ."""
    rng = np.random.default_rng(20)
    wrong = 0
    for number in range(cases):
        # Every tenth is large enough for many warps and blocks.
        large = 60_000 if number % 10 == 9 and hasattr(device, "torch") else 300
        batch, options = random_case(rng, large)
        wrong += not same(device, batch, **options)
    check, planes = BatchChecksum(4, device), rng.integers(0, 256, (4, 99_999), "u1")
    check.update(to(device, planes))
    check.update(to(device, planes[:, :7].copy()))
    sums = [crc32c(row[:7].tobytes(), crc32c(row.tobytes())) for row in planes]
    bad = golden(device) + ["checksums"] * (check.values() != sums)
    result = {"golden, different": bad, "random": cases, "random, different": wrong}
    result["compared with"] = backend()
    if bad or wrong:
        raise AssertionError(f"bytes differ: {result}")
    return result


def exactness(images: Path | None, checkpoint: str | None) -> dict:
    """Files of the CPU decoded on the GPU, and files of the GPU on the CPU."""
    import exactness as check
    import torch
    from PIL import Image

    from polycodec.codecs import zoo

    with tempfile.TemporaryDirectory() as folder:
        if images is None:
            images = Path(folder) / "images"
            images.mkdir()
            rng = np.random.default_rng(1)
            for number, size in enumerate([(192, 256), (137, 201)]):
                fine = rng.integers(0, 255, (*size, 3), np.uint8)
                rough = Image.fromarray(fine).resize((size[1] // 16, size[0] // 16))
                rough.resize((size[1], size[0])).save(images / f"{number}.png")
        table = {}
        for made, read in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
            out = Path(folder) / f"{made}-{read}"
            threads = torch.get_num_threads()
            check.make(images, out, zoo.load(device=made, checkpoint=checkpoint))
            found = check.check(out, zoo.load(device=read, checkpoint=checkpoint))
            torch.set_num_threads(threads)
            table |= {f"{made} to {name}": counts for name, counts in found.items()}
    different = sum(counts["different"] for counts in table.values())
    if different:
        raise AssertionError(f"{different} latents differ: {table}")
    return table


def sanitizer(cases: int) -> dict:
    """Each tool's count of errors over a small identity run."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).is_file():
        return {name: f"{NOT_YET}: no compute-sanitizer here" for name in TOOLS}
    # Each tensor in memory of its own: else torch's pool hides what is outside.
    env = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    result = {}
    for name in TOOLS:
        command = [tool, "--tool", name, sys.executable, str(Path(__file__).resolve())]
        command += ["--only", "identity", "--cases", str(cases)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env=env,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            result[name] = f"failed: longer than {LIMIT} s; use fewer --cases"
            continue
        said = done.stdout + done.stderr
        found = re.findall(r"SUMMARY: (\d+)", said)
        fine = done.returncode == 0 and found
        result[name] = int(found[-1]) if fine else f"failed: {said[-1500:]}"
    if any(result.values()):
        raise AssertionError(f"compute-sanitizer: {result}")
    return result


def about(emulate: bool) -> dict:
    """Device, driver and versions."""
    facts = {"python": platform.python_version(), "numpy": np.__version__}
    facts["host"] = platform.processor() or platform.machine()
    if emulate:
        return facts | {"device": f"none: emulation on the host; {NOT_YET}"}
    import torch

    from polycodec.cuda import nvrtc

    properties = torch.cuda.get_device_properties(0)
    facts |= {"device": properties.name, "torch": torch.__version__}
    facts["capability"] = f"{properties.major}.{properties.minor}"
    facts["processors"] = properties.multi_processor_count
    facts["nvrtc"] = "{}.{}".format(*nvrtc.compiler().version)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(query[0]):
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        facts["driver"] = done.stdout.split("\n")[0].strip()
    return facts


def parts_of(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What there is to run."""
    if args.emulate:
        from polycodec.cuda.emulation import Emulator

        return {"identity": lambda: identity(Emulator(), args.cases)}
    from polycodec.cuda import driver

    def speed() -> object:
        import gpu_speed

        return gpu_speed.measure(driver.on("cuda"), rounds=args.rounds)

    return {
        "identity": lambda: identity(driver.on("cuda"), args.cases),
        "exactness": lambda: exactness(args.images, args.checkpoint),
        "sanitizer": lambda: sanitizer(min(args.cases, 20)),
        "speed": speed,
    }


def main() -> int:
    """Command line; 1 when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="the JSON; else only printed")
    parser.add_argument("--emulate", action="store_true", help="dry run, no GPU")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--cases", type=int, default=200, help="random batches")
    parser.add_argument("--rounds", type=int, default=5, help="of each timing")
    parser.add_argument("--images", type=Path, help="a folder; else two made up ones")
    parser.add_argument("--checkpoint", help="of the codec; else the default")
    args = parser.parse_args()
    parts = parts_of(args)
    result: dict = {"about": about(args.emulate)}
    failed = False
    for name in args.only or PARTS:
        result[name] = NOT_YET
        if name in parts:
            try:
                result[name] = parts[name]()
            except Exception as error:  # the other parts are worth having
                traceback.print_exc()
                result[name], failed = f"failed: {error}", True
        if args.out:
            args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result[name], indent=1), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
