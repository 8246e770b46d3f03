# SPDX-License-Identifier: Apache-2.0
"""Everything about the CUDA coder that only a GPU can answer, in one JSON.

    python docs/checks/gpu/check.py --images KODAK              on a machine with a GPU
    python docs/checks/gpu/check.py --dry-run --out dry.json    without: a rehearsal

    identity    golden and random streams, tables and priors, both ways: the CPU's bytes
                exactly (streams.py)
    files       a codec's files, GPU and CPU, both ways: latents, bytes (codec.py)
    waits       nothing between a decoder's passes waits for the device
    exactness   entropy networks in all ways of computing, GPU against CPU
    image       milliseconds of one image with the whole codec
    speed       throughput of tables and priors, time per step, latency of one image's
                symbols (speed.py)
    sanitizer   compute-sanitizer's memcheck, racecheck and initcheck over identity

A rehearsal runs the same code over the kernels' host emulation, small, and keeps no
time: what a GPU has not measured says "not yet measured". A failed part is reported
under its name and the exit status is 1. Without --out the JSON of a GPU goes into the
working directory, named after date and device.
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
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
# At the end: NVIDIA's `cuda` package, which torch may import, goes before our folder.
sys.path += [str(ROOT), str(ROOT / "docs" / "checks"), str(ROOT / "tests")]

from streams import identity  # noqa: E402

NOT_YET = "not yet measured"
PARTS = ("identity", "files", "waits", "exactness", "image", "speed", "sanitizer")
LIMIT = 240  # seconds for each tool
TOOLS = ("memcheck", "racecheck", "initcheck")


def exactness(checkpoint: str | None) -> dict:
    """Files of each device decoded on the other in every way of computing."""
    import exactness as check
    import torch
    from PIL import Image

    from polycodec.codecs import zoo

    with tempfile.TemporaryDirectory() as folder:
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


def about(dry: bool) -> dict:
    """Device, driver and versions."""
    facts = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}
    facts |= {"numpy": np.__version__, "revision": revision()}
    facts["host"] = platform.processor() or platform.machine()
    if dry:
        return facts | {"device": f"none: emulation on the host; {NOT_YET}"}
    import torch

    from polycodec.cuda.device import driver, nvrtc

    properties = torch.cuda.get_device_properties(0)
    facts |= {"device": properties.name, "torch": torch.__version__}
    facts["capability"] = f"{properties.major}.{properties.minor}"
    facts["processors"] = properties.multi_processor_count
    facts["cuda"] = torch.version.cuda
    facts["kernels"] = driver.on("cuda").kernels
    facts["nvrtc"] = "{}.{}".format(*nvrtc.compiler().version)
    facts["driver"] = said(
        "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"
    )
    return facts


def said(*command: str) -> str:
    """The first line of a command's output, or nothing."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.stdout.split("\n")[0].strip()


def revision() -> str:
    """The checkout's commit."""
    return said("git", "describe", "--always", "--dirty")


class Rehearsal:
    """All parts over the emulation, without a figure of time."""

    def __init__(self, args: argparse.Namespace) -> None:
        import codec
        import torch
        from emulation import Emulator

        from polycodec.codecs import zoo

        class Device(Emulator):
            device = torch.device("cpu")

        Device.torch = torch
        self.args, self.coder, self.codec = args, Device, codec
        model = zoo.load(checkpoint=args.checkpoint)
        self.host = codec.Side("cpu", model, lambda: codec.coded_by(None))
        self.side = codec.Side("cuda", model, lambda: codec.coded_by(Emulator()))
        self.images = list(codec.pictures(None, (64, 96)))

    def parts(self) -> dict[str, Callable[[], object]]:
        """What there is to run; sanitizer and exactness need the device."""
        import speed

        codec, x = self.codec, self.images[0]
        return {
            "identity": lambda: identity(self.coder(), self.args.cases),
            "files": lambda: codec.files([self.host, self.side], self.images),
            "waits": lambda: codec.waits(self.side, x),
            "image": lambda: unmeasured(codec.image(self.side, x, 0)),
            "speed": lambda: unmeasured(
                speed.measure(self.coder(), rounds=0, sizes=speed.REHEARSAL)
            ),
        }


def unmeasured(tree: object) -> object:
    """A result without its times and speeds."""
    if isinstance(tree, dict):
        return {k: unmeasured(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [unmeasured(v) for v in tree]
    return NOT_YET if isinstance(tree, float) else tree


def parts_of(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What there is to run."""
    if args.dry_run:
        return Rehearsal(args).parts()
    import codec
    import speed

    from polycodec.codecs import zoo
    from polycodec.cuda.device import driver

    sides = [
        codec.Side(name, zoo.load(device=name, checkpoint=args.checkpoint))
        for name in ("cpu", "cuda")
    ]
    images = list(codec.pictures(args.images, (512, 768)))
    one = next(x for x in codec.pictures(None, (512, 768)))
    return {
        "identity": lambda: identity(driver.on("cuda"), args.cases),
        "files": lambda: codec.files(sides, images),
        "waits": lambda: codec.waits(sides[1], one),
        "exactness": lambda: exactness(args.checkpoint),
        "image": lambda: codec.image(sides[1], images[0], 4 * args.rounds),
        "speed": lambda: speed.measure(driver.on("cuda"), rounds=args.rounds),
        "sanitizer": lambda: sanitizer(min(args.cases, 20)),
    }


def default_target(facts: dict) -> Path:
    """A name that tells the day and the device."""
    name = re.sub(r"[^a-z0-9]+", "-", facts["device"].lower()).strip("-")
    return Path(f"gpu-{facts['date']}-{name}.json")


def main() -> int:
    """Command line; 1 when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="the JSON; else gpu-DATE-DEVICE.json")
    parser.add_argument("--dry-run", action="store_true", help="rehearse without GPU")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--cases", type=int, default=200, help="random batches")
    parser.add_argument("--rounds", type=int, default=5, help="of each timing")
    parser.add_argument("--images", type=Path, help="a folder; else one made up image")
    parser.add_argument("--checkpoint", help="of the codec; else the default")
    args = parser.parse_args()
    if args.only == ["identity"] and not args.dry_run:  # under a sanitizer: no codec
        from polycodec.cuda.device import driver

        print(identity(driver.on("cuda"), args.cases))
        return 0
    result: dict = {"about": about(args.dry_run)}
    target = args.out or (None if args.dry_run else default_target(result["about"]))
    parts, failed = parts_of(args), False
    for name in args.only or PARTS:
        result[name] = NOT_YET
        if name in parts:
            try:
                result[name] = parts[name]()
            except Exception as error:  # the other parts are worth having
                traceback.print_exc()
                result[name], failed = f"failed: {error}", True
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result[name], indent=1), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
