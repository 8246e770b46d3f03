# SPDX-License-Identifier: Apache-2.0
"""Codecs inside other programs: threads, memory, data sets, exported networks.

    python docs/checks/embedding.py threads memory dataset export --pictures FOLDER

    threads   8 x 50 calls of both shipped codecs at once against one thread alone
    memory    resident size over 1,000 calls of changing sizes
    dataset   pictures a second: .plc whole, in part, as codes, against JPEG of as many
              bytes by Pillow; crops of 256 x 256 of the pictures of FOLDER
    export    largest difference of torch.export's programs, and of ONNX files where
              onnxscript and onnxruntime are at hand

Each says what it found as a line; together some ten minutes of one core.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import polycodec
from polycodec.eval.image.datasets import SUFFIXES

SIDE = 256


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth colours, (1, 3, H, W)."""
    draw = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 5, 7, generator=draw)
    return F.interpolate(small, (height, width), mode="bilinear")


def sound(samples: int) -> torch.Tensor:
    """A tone that swells, (1, 1, T)."""
    time_ = torch.arange(samples) / 16000
    return (0.3 * torch.sin(1400 * time_) * torch.sin(9 * time_))[None, None]


def calls() -> dict[str, Callable[[], Any]]:
    """Calls of all sorts of both codecs, by name."""
    image, speech = polycodec.load(), polycodec.load("speech/default")
    some = image.compress([picture(64, 80), picture(40, 96, 1)], 60)
    talk = speech.compress(sound(16000), 60)
    pixels = (255 * picture(48, 48)[0]).byte().permute(1, 2, 0).numpy()

    def searched() -> list[bytes]:
        return list(image.image_encoder(pixels, 255, 0, effort=3).chunks(50))

    found: dict[str, Callable[[], Any]] = {
        "images back": lambda: image.decompress(some),
        "latents": lambda: image.latents(some[0], dequantized=True),
        "search": searched,
        "speech back": lambda: speech.decompress(talk),
        "tokens": lambda: speech.latents(talk),
    }
    for q in (0, 40, 100):
        found[f"images {q}"] = functools.partial(
            image.compress, [picture(64, 80), picture(40, 96, 1)], q
        )
        found[f"speech {q}"] = functools.partial(
            speech.compress, [sound(8000), sound(5000)], q
        )
    return found


def plain(result: Any) -> Any:
    """Something to compare with ==."""
    if isinstance(result, torch.Tensor):
        return result.numpy().tobytes()
    return [plain(one) for one in result] if isinstance(result, list) else result


def threads(options: argparse.Namespace) -> None:
    every = calls()
    wanted = {name: plain(call()) for name, call in every.items()}
    wrong: list[str] = []

    def work(seed: int) -> None:
        for name in random.Random(seed).choices(list(every), k=50):
            try:
                if plain(every[name]()) != wanted[name]:
                    wrong.append(name)
            except Exception as error:
                wrong.append(repr(error))

    team = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for one in team:
        one.start()
    for one in team:
        one.join()
    print(f"threads: 8 x 50 calls, {len(wrong)} wrong", *wrong[:2], flush=True)


def memory(options: argparse.Namespace) -> None:
    image, sizes = polycodec.load(), []
    for k in range(options.calls):
        x = picture(24 + k % 7 * 8, 32 + k % 5 * 16, k)
        data = image.compress(x, k % 101)
        image.latents(data)
        image.decompress(data)
        if k % (options.calls // 10) == options.calls // 10 - 1:
            sizes.append(resident())
    print("memory, MB:", " ".join(f"{size:.1f}" for size in sizes))
    print(
        f"  from call {options.calls // 2} to the last: {sizes[-1] - sizes[4]:+.2f} MB"
    )


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Jpegs(Dataset[torch.Tensor]):
    """JPEG files by Pillow."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> torch.Tensor:
        pixels = np.array(Image.open(self.files[k]).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)


def crops(folder: Path, count: int) -> Iterator[Image.Image]:
    """Crops of SIDE of the pictures of a folder, several of each."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES)
    if not files:
        raise SystemExit(f"no pictures in {folder}; name a folder of photographs")
    turns, k = random.Random(0), 0
    while k < count:
        image = Image.open(files[k % len(files)]).convert("RGB")
        x, y = (turns.randrange(max(1, n - SIDE + 1)) for n in image.size)
        yield image.crop((x, y, x + SIDE, y + SIDE))
        k += 1


def dataset(options: argparse.Namespace) -> None:
    codec = polycodec.load()
    with tempfile.TemporaryDirectory() as place:
        jpegs, sizes = [], [0, 0]
        for k, image in enumerate(crops(options.pictures, options.count)):
            png = io.BytesIO()
            image.save(png, "PNG")
            plc = Path(place, f"{k:04}.plc")
            sizes[0] += polycodec.encode(png.getvalue(), plc, codec=codec).bytes
            jpegs.append(Path(place, f"{k:04}.jpg"))
            jpegs[-1].write_bytes(jpeg_of(image, plc.stat().st_size))
            sizes[1] += jpegs[-1].stat().st_size
        about = f"{options.count} pictures of {SIDE} x {SIDE}"
        print(f"{about}; bytes as .plc and as JPEG: {sizes}")
        some = {
            "plc, pixels": polycodec.PlcDataset(place, codec=codec),
            "plc, a quarter": polycodec.PlcDataset(
                place, codec=codec, region=(64, 64, SIDE // 2, SIDE // 2)
            ),
            "plc, codes": polycodec.PlcDataset(place, codec=codec, read="codes"),
            "plc, latents": polycodec.PlcDataset(place, codec=codec, read="latents"),
            "JPEG, Pillow": Jpegs(jpegs),
        }
        for name, data in some.items():
            for workers in options.workers:
                loader = DataLoader(data, batch_size=50, num_workers=workers)
                began, used = time.perf_counter(), time.process_time()
                found = sum(len(batch) for batch in loader)
                pace = found / (time.perf_counter() - began)
                said = f"  {name:16}{workers} workers  {pace:8.1f} a second"
                if not workers:  # whatever else the core does
                    used = time.process_time() - used
                    said += f", {found / used:.1f} in a second of its core"
                print(said, flush=True)


def jpeg_of(image: Image.Image, size: int) -> bytes:
    """The JPEG of the highest quality that is no larger, or of the lowest."""
    best = b""
    for quality in range(5, 96, 5):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        if best and out.tell() > size:
            break
        best = out.getvalue()
    return best


def export(options: argparse.Namespace) -> None:
    for name, x in (
        ("image/default", picture(150, 210)),
        ("speech/default", sound(50000)),
    ):
        codec = polycodec.load(name)
        data = codec.compress(x, 80)
        wanted, codes = codec.decompress(data), codec.latents(data)
        level = torch.full((1,), float(codec.level_of(80)))
        network = polycodec.Synthesis(codec, planes=codes.shape[1])
        cut = (..., *(slice(n) for n in x.shape[2:]))
        found = network.program().module()(codes, level)[cut]
        print(f"{name}: torch.export differs by at most {apart(found, wanted)}")
        try:
            import onnxruntime
            import onnxscript  # noqa: F401
        except ImportError as error:
            print(f"  no ONNX: {error}")
            continue
        with tempfile.TemporaryDirectory() as place:
            path = network.onnx(Path(place, "a.onnx"))
            session = onnxruntime.InferenceSession(
                path, providers=["CPUExecutionProvider"]
            )
            given = {"codes": codes.numpy(), "level": level.numpy()}
            given = {one.name: given[one.name] for one in session.get_inputs()}
            found = torch.from_numpy(session.run(None, given)[0])[cut]
            size = path.stat().st_size
        print(f"  ONNX, {size} bytes: at most {apart(found, wanted)}", flush=True)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> str:
    """The largest difference, of samples and in steps of 8 or 16 bits."""
    most = float((found - wanted).abs().max())
    steps = 255 * most if wanted.ndim == 4 else 32768 * most
    return f"{most:.2e}, {steps:.4f} steps of {8 if wanted.ndim == 4 else 16} bits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    what = {f.__name__: f for f in (threads, memory, dataset, export)}
    parser.add_argument("what", nargs="+", choices=what)
    parser.add_argument("--pictures", type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.what:
        what[name](options)


if __name__ == "__main__":
    main()
