# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/many-machines.md on two workers, one of them killed.

    python docs/checks/machines.py PHOTOS --with dask ray spark [--count 500]

Crops of the photographs in a folder, and one file that is damaged, are coded by this
process, then by each framework through a distant place (file://). When a quarter of the
files is there, a worker is killed (SIGKILL). Then

    all        every file is there
    equal      bytes are those of the single process
    failed     the damaged file, and no other, with its reason
    parts      files that are no output: what a killed worker left behind
    workers    processes that have coded
    again      the same run repeated: what it coded, and its seconds

The frameworks are installed by whoever runs this; Spark needs Java. About a minute each
on an idle core, most of it starting clusters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import polycodec
from polycodec.eval.image.datasets import SUFFIXES

PAGE = Path(__file__).resolve().parents[1] / "many-machines.md"
BLOCK = r"<!-- run by docs/checks/machines\.py: {} -->\n```python\n(.*?)^```$"
NEEDS = {"dask": "dask.distributed", "ray": "ray.data", "spark": "pyspark.sql"}


class Marked(polycodec.Encoder):
    """An encoder that says which processes it works in."""

    marks = ""

    def file(self, source: Any, target: Any) -> Any:
        """Encode a file to a file."""
        Path(self.marks, str(os.getpid())).touch()
        return super().file(source, target)


def crops(photos: Path, folder: Path, count: int, side: int) -> None:
    """Write ``count`` crops, in ten folders, and a file that is damaged."""
    names = sorted(p for p in photos.rglob("*") if p.suffix in SUFFIXES)[:40]
    if not names:
        sys.exit(f"no photographs in {photos}; name a folder of some")
    pictures = [np.asarray(Image.open(name).convert("RGB")) for name in names]
    rng = np.random.default_rng(0)
    for k in range(count):
        pixels = pictures[k % len(pictures)]
        top, left = (int(rng.integers(n - side + 1)) for n in pixels.shape[:2])
        path = folder / str(k % 10) / f"{k:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[top : top + side, left : left + side]).save(path)
    (folder / "damaged.png").write_bytes(path.read_bytes()[:400])


def killing(marks: Path, out: Path, wanted: int, said: dict[str, Any]) -> None:
    """Kill the first worker that began, when there are ``wanted`` files."""
    while len(list(out.rglob("*.plc"))) < wanted:
        time.sleep(0.02)
    pid = min(marks.iterdir(), key=lambda mark: mark.stat().st_mtime).name
    os.kill(int(pid), signal.SIGKILL)
    said["killed_at"] = len(list(out.rglob("*.plc")))


def run(name: str, encoder: Marked, jobs: list[dict[str, str]]) -> list[Any]:
    """Run the page's block; its rows."""
    found = re.search(BLOCK.format(name), PAGE.read_text("utf-8"), re.M | re.S)
    assert found, name
    names = {"encoder": encoder, "jobs": jobs, "__name__": "__main__"}
    exec(compile(found[1], PAGE.name, "exec"), names)
    return names["rows"]


def start(name: str) -> None:
    """Set up two workers where the page's block takes what there is."""
    if name == "ray":
        import ray

        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    if name == "spark":
        master = "--master local-cluster[2,1,1024] pyspark-shell"
        os.environ["PYSPARK_SUBMIT_ARGS"] = master
        os.environ["PYSPARK_PYTHON"] = sys.executable


def tried(
    name: str, encoder: Marked, work: Path, single: dict[str, bytes]
) -> dict[str, Any]:
    """Run one framework twice; what came of it."""
    out, marks = work / name, work / f"{name}-workers"
    marks.mkdir()
    out.mkdir()
    encoder.marks = str(marks)
    start(name)
    places = (work / "crops").as_uri(), out.as_uri()
    said: dict[str, Any] = {}
    jobs = encoder.jobs(*places)
    killer = threading.Thread(
        target=killing, args=(marks, out, len(jobs) // 4, said), daemon=True
    )
    killer.start()
    begun = time.perf_counter()
    rows = run(name, encoder, jobs)
    said["seconds"] = round(time.perf_counter() - begun, 1)
    made = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    files = {k: p.read_bytes() for k, p in made.items() if k.endswith(".plc")}
    said |= {
        "all": files.keys() == single.keys(),
        "equal": files == single,
        "states": Counter(row["state"] for row in rows),
        "failed": {r["input"]: r["reason"] for r in rows if r["state"] == "failed"},
        "parts": [k for k in made if not k.endswith(".plc")],
        "workers": len(list(marks.iterdir())),
    }
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.plc")}
    begun = time.perf_counter()
    rows = run(name, encoder, encoder.jobs(*places))
    said["again"] = {
        "states": Counter(row["state"] for row in rows),
        "changed": {p: p.stat().st_mtime_ns for p in out.rglob("*.plc")} != times,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    return said


def main() -> None:
    """Read the arguments, run, print JSON; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--with", dest="names", nargs="+", choices=NEEDS, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--model", default="image/default")
    args = parser.parse_args()
    for name in args.names:
        importlib.import_module(NEEDS[name])  # what is missing is said at once
    work = Path(tempfile.mkdtemp(prefix="machines-"))
    try:
        crops(args.photos, work / "crops", args.count, args.side)
        encoder = Marked(args.model, 60, device="cpu")
        encoder.marks = str(work)
        begun = time.perf_counter()
        for job in encoder.jobs(work / "crops", work / "single"):
            encoder.do(job)
        spent = round(time.perf_counter() - begun, 1)
        paths = (work / "single").rglob("*.plc")
        single = {
            p.relative_to(work / "single").as_posix(): p.read_bytes() for p in paths
        }
        print(json.dumps({"single": {"files": len(single), "seconds": spent}}))
        right = len(single) == args.count
        for name in args.names:
            said = tried(name, encoder, work, single)
            print(json.dumps({name: said}, indent=1), flush=True)
            right &= said["all"] and said["equal"] and "killed_at" in said
            right &= len(said["failed"]) == 1 and not said["again"]["changed"]
    finally:
        shutil.rmtree(work)
    sys.exit(not right)


if __name__ == "__main__":
    main()
