# SPDX-License-Identifier: Apache-2.0
"""A set of thousands of small pictures: bytes beside streams, one member, memory.

    python docs/checks/sets.py FOLDER [--count 10000] [--quality 50] [--webp 50]
        [--priors WEIGHTS] [--effort 0]

Pictures of FOLDER, as PNG under names 00000.png ..., as a set by image/default, or by
RECOMBINER with its priors, beside a zip that stores WebP files (Pillow, method 6):

    beside     bytes a picture that are not its stream: names, sizes, index, header
    one        what a reader reads to have the middle member, and milliseconds to open
               the file and decode it, the codec being loaded; of the zip likewise
    memory     the most of this process, before and after
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polycodec import load, pack
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.container.members import Index
from polycodec.codecs.files.sets.unpack import decode_members
from polycodec.codecs.stored import load_codec


class Counted(io.FileIO):
    """A file that counts what is read."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def memory() -> float:
    """The most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def zipped(files: list[Path], target: Path, quality: int) -> dict[str, float]:
    """WebP files in a zip, and one of them read."""
    spent, size = time.process_time(), 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            webp = io.BytesIO()
            Image.open(path).save(webp, "WEBP", quality=quality, method=6)
            archive.writestr(f"{path.stem}.webp", webp.getvalue())
            size += len(webp.getvalue())
    spent = time.process_time() - spent
    with Counted(str(target)) as file:
        begun = time.process_time()
        with zipfile.ZipFile(file) as archive:
            name = f"{files[len(files) // 2].stem}.webp"
            np.asarray(Image.open(io.BytesIO(archive.read(name))))
        one = time.process_time() - begun
        taken = file.taken
    return row(target, size, len(files), taken, spent, one)


def row(
    path: Path, streams: int, count: int, taken: int, spent: float, one: float
) -> dict[str, float]:
    """A row of the table; ``streams``: bytes of all of them."""
    total = path.stat().st_size
    return {
        "bytes": total,
        "a picture": round(total / count, 2),
        "beside": round((total - streams) / count, 2),
        "one, bytes": taken,
        "one, ms": round(1e3 * one, 1),
        "made, s": round(spent, 1),
        "memory, MB": round(memory()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--webp", type=int, default=50)
    parser.add_argument("--priors", type=Path)
    parser.add_argument("--effort", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = sorted(p for p in args.folder.rglob("*") if p.suffix in (".png", ".jpg"))
    with tempfile.TemporaryDirectory() as folder:
        work, pngs = Path(folder), Path(folder) / "png"
        pngs.mkdir()
        for k, path in enumerate(found[: args.count]):
            Image.open(path).convert("RGB").save(pngs / f"{k:05}.png")
        files = sorted(pngs.iterdir())
        print(len(files), "pictures", flush=True)
        if args.priors:
            codec = load_codec(args.priors, name="image/recombiner")
        else:
            made = zipped(files, work / "set.zip", args.webp)
            print("zip of WebP", args.webp, json.dumps(made), flush=True)
            codec = load("image/default")
        before, spent = round(memory()), time.process_time()
        target = work / "set.plc"
        given = {"quality": args.quality, "effort": args.effort}
        pack(pngs, target, codec=codec, force=True, **given)
        spent = time.process_time() - spent
        with Counted(str(target)) as file:
            begun = time.process_time()
            index = Index(Reader(file))
            name = index.names[len(files) // 2]
            [outcome] = decode_members([index.open(name)], codec)
            one, taken = time.process_time() - begun, file.taken
            assert not isinstance(outcome, Exception), outcome
            streams = sum(map(index.size, index.names))
        made = row(target, streams, len(files), taken, spent, one)
        print(codec.name, args.quality, json.dumps(made), f"before: {before} MB")


if __name__ == "__main__":
    main()
