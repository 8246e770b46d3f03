# SPDX-License-Identifier: Apache-2.0
"""RECOMBINER beside other codecs of small pictures, its parts one by one, and patches.

    python docs/checks/recombiner.py pictures TEST --weights W -o OUT --count 500
    python docs/checks/recombiner.py ablation TRAIN TEST --count 32
    python docs/checks/recombiner.py crop PICTURE --weights W --side 256

`pictures`: those of a folder, evenly taken, by the priors in W at each of their rates,
by image/default, JPEG, WebP, AVIF and JPEG XL: bits a pixel of files, all bytes
counted, and of one set (a zip that only stores, for formats that have none), mean PSNR
of decoded 8-bit pictures, seconds a picture. Rows as JSON, one plot. On an idle core
about 2 s a picture and rate for RECOMBINER, minutes for all others together.

`ablation`: priors of the same pictures and steps at one rate, with and without the
linear map and φ, and in four patches with and without tiers; then pictures of TEST. Six
trainings of --steps at about 0.045 s.

`crop`: the middle of a picture, in patches: bits a pixel, PSNR, seconds.

What the paper has of CIFAR-10 and of Kodak stands beside: of the original pictures, by
priors of 15,000 pictures, 55,000 steps each, networks four times as wide.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from polycodec import decode, encode, load, pack, unpack
from polycodec.codecs.base import Codec
from polycodec.codecs.families.bayesian import BayesianCodec
from polycodec.codecs.stored import load_codec
from polycodec.eval.image.anchors import ANCHORS
from polycodec.train.bayesian import Ascent
from polycodec.train.image.bayesian import crops
from polycodec.train.image.data import ImageCache
from polycodec.train.sections import PriorsSection

# arXiv 2309.17182: bits a pixel and PSNR, of CIFAR-10 and of whole Kodak pictures.
PAPER = [(0.297, 23.592), (0.719, 27.222), (0.938, 28.505), (1.531, 30.911)]
KODAK = [(0.074, 26.158), (0.178, 28.594), (0.488, 31.953), (0.972, 34.540)]
SINGLE = 1  # pictures that are also coded as files, where all files are of one size
Row = dict[str, Any]


def psnr(x: np.ndarray, y: np.ndarray) -> float:
    """PSNR of 8-bit pictures."""
    mse = np.mean((x.astype(float) - y.astype(float)) ** 2)
    return float(-10 * np.log10(max(mse, 1e-2) / 255**2))


def taken(folder: str, count: int) -> list[Path]:
    """Some pictures of a folder, evenly."""
    every = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".jpg", ".png"))
    count = min(count, len(every))
    return [every[k * len(every) // count] for k in range(count)]


def ours(
    codec: Codec, quality: float, pngs: Path, work: Path, effort: int, single: int
) -> Row:
    """A set of the pictures, and files of some or all of them."""
    files = sorted(pngs.iterdir())
    started = time.process_time()
    packed = pack(
        pngs, work / "set.plc", codec=codec, quality=quality, effort=effort, force=True
    )
    middle = time.process_time()
    unpack(work / "set.plc", work / "out", codec=codec, force=True)
    ended = time.process_time()
    originals = {p.name: np.asarray(Image.open(p)) for p in files}
    pixels = sum(x[..., 0].size for x in originals.values())
    scores = [
        psnr(x, np.asarray(Image.open(work / "out" / name).convert("RGB")))
        for name, x in originals.items()
    ]
    sizes = [
        encode(
            p, work / "one.plc", codec=codec, quality=quality, effort=effort, force=True
        ).bytes
        for p in files[:single]
    ]
    return {
        "quality": quality,
        "bpp_set": 8 * packed.bytes / pixels,
        "bpp_files": 8 * sum(sizes) / len(sizes) * len(files) / pixels,
        "psnr": float(np.mean(scores)),
        "encode_s": (middle - started) / len(files),
        "decode_s": (ended - middle) / len(files),
    }


def anchor(name: str, setting: float, originals: list[np.ndarray], work: Path) -> Row:
    """A classical codec: its files, and a zip that stores them."""
    subject, scores, spent, back = ANCHORS[name], [], 0.0, 0.0
    with zipfile.ZipFile(work / "set.zip", "w", zipfile.ZIP_STORED) as archive:
        size = 0
        for k, x in enumerate(originals):
            coded = subject.compress(x, setting)
            found = subject.decompress(coded.data)
            archive.writestr(f"{k:05}", coded.data)
            size += len(coded.data)
            spent, back = spent + coded.seconds, back + found.seconds
            scores.append(psnr(x, found.signal))
    pixels = sum(x[..., 0].size for x in originals)
    return {
        "quality": setting,
        "bpp_set": 8 * (work / "set.zip").stat().st_size / pixels,
        "bpp_files": 8 * size / pixels,
        "psnr": float(np.mean(scores)),
        "encode_s": spent / len(originals),
        "decode_s": back / len(originals),
    }


def pictures(args: argparse.Namespace) -> None:
    """Print and keep a row for each codec and setting; draw them."""
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []

    def said(name: str, row: Row) -> None:
        rows.append({"codec": name, **row})
        print(json.dumps(rows[-1]), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "png").mkdir()
        originals = []
        for k, path in enumerate(taken(args.test, args.count)):
            image = Image.open(path).convert("RGB")
            image.save(work / "png" / f"{k:05}.png")
            originals.append(np.asarray(image))
        if args.weights:
            codec = load_codec(args.weights, name="image/recombiner")
            for level in range(codec.levels):
                quality = 100 * level / max(1, codec.levels - 1)
                row = ours(codec, quality, work / "png", work, args.effort, SINGLE)
                said("recombiner", row)
        default = load("image/default")
        for quality in args.qualities:
            row = ours(default, quality, work / "png", work, 0, len(originals))
            said("image/default", row)
        for name in ("jpeg", "webp", "avif-psnr", "jxl"):
            if (why := ANCHORS[name].missing()) is not None:
                print(f"{name}: {why}")
                continue
            for setting in ANCHORS[name].settings:
                said(name, anchor(name, setting, originals, work))
    (out / "pictures.json").write_text(json.dumps(rows, indent=1))
    draw(rows, out / "pictures.png")


def draw(rows: list[Row], path: Path) -> None:
    """Sets as lines, files dashed, the paper's own dotted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6))
    for k, name in enumerate(dict.fromkeys(row["codec"] for row in rows)):
        own = [row for row in rows if row["codec"] == name]
        values = [row["psnr"] for row in own]
        sets, files = ([row[key] for row in own] for key in ("bpp_set", "bpp_files"))
        axes.plot(sets, values, "o-", color=f"C{k}", label=f"{name}, a set")
        axes.plot(files, values, "x--", color=f"C{k}", label=f"{name}, files")
    axes.plot(*zip(*PAPER, strict=True), "k:", label="paper, CIFAR-10, no file")
    axes.set(xlabel="bits a pixel, all bytes", ylabel="PSNR, dB", xlim=(0, 8))
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "all": ({}, {}),
    "no linear map": ({}, {"linear": False}),
    "no positional encodings": ({}, {"encoding": 0, "fourier": 16}),
    "neither": ({}, {"encoding": 0, "fourier": 16, "linear": False}),
    "four patches, tiers": ({"piece": (16, 16), "group": (2, 2)}, {"up": (2, 2, 1)}),
    "four patches": ({"piece": (16, 16)}, {"up": (2, 2, 1)}),
}


def learned(x: torch.Tensor, steps: int, options: Row, network: Row) -> BayesianCodec:
    """Priors of pictures (N, 3, 32, 32) at one rate."""
    torch.manual_seed(0)
    network = {"hidden": 24, "up": (2, 2, 2), **network}
    codec = BayesianCodec(bpp=(0.9,), network=network, **options)
    # β begins high and hurries, so that all variants come near one rate in few steps.
    section = PriorsSection(beta=(1e-4,), settle=steps // 2, factor=1.1)
    ascent = Ascent(codec, x, section)
    optimizer = torch.optim.Adam(codec.parameters(), 1e-3)
    for step in range(steps):
        share = min(1.0, 2 * (1 - step / steps))
        optimizer.param_groups[0]["lr"] = 1e-3 * share
        ascent.slow(share)
        if step and step % section.every == 0:
            passes = section.every * 32 / len(x) if step > section.settle else 0
            ascent.update(0, passes=passes)
        at = np.random.default_rng(step).choice(len(x), 32, replace=False)
        loss, _ = ascent.loss(0, torch.from_numpy(at))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    codec.freeze(lambda codec: None)
    return codec


def ablation(args: argparse.Namespace) -> None:
    """Print bits and PSNR of each variant, at one rate."""
    with tempfile.TemporaryDirectory() as cache:
        images = ImageCache(args.train, cache)
        x = crops(images, list(range(len(images))), (32, 32), args.signals, 0) / 255
    tests = [
        np.asarray(Image.open(p).convert("RGB")) for p in taken(args.test, args.count)
    ]
    batch = torch.from_numpy(np.stack(tests)).permute(0, 3, 1, 2)
    for name, (options, network) in VARIANTS.items():
        if args.only and name not in args.only:
            continue
        codec = learned(x, args.steps, options, network)
        coded = codec.write(codec.encode_codes(batch, 1), 1)
        back = (codec.decode_codes(coded.codes, 1) * 255).round().byte()
        back = back.permute(0, 2, 3, 1).numpy()
        row = {
            "variant": name,
            "bpp": coded.estimated_bits[0] / 1024,
            "psnr": np.mean([psnr(a, b) for a, b in zip(tests, back, strict=True)]),
        }
        print(json.dumps(row), flush=True)


def crop(args: argparse.Namespace) -> None:
    """Print what each rate makes of the middle of a picture."""
    image = Image.open(args.picture).convert("RGB")
    left, top = ((n - args.side) // 2 for n in image.size)
    image = image.crop((left, top, left + args.side, top + args.side))
    codec = load_codec(args.weights, name="image/recombiner")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        image.save(work / "a.png")
        for level in range(codec.levels):
            quality = 100 * level / max(1, codec.levels - 1)
            given: dict[str, Any] = {"codec": codec, "quality": quality, "force": True}
            started = time.process_time()
            size = encode(
                work / "a.png", work / "a.plc", effort=args.effort, **given
            ).bytes
            middle = time.process_time()
            decode(work / "a.plc", work / "b.png", codec=codec, force=True)
            row = {
                "quality": quality,
                "bpp": 8 * size / args.side**2,
                "psnr": psnr(np.asarray(image), np.asarray(Image.open(work / "b.png"))),
                "encode_s": middle - started,
                "decode_s": time.process_time() - middle,
            }
            print(json.dumps(row), flush=True)
    print("paper, whole Kodak pictures:", KODAK)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ways = parser.add_subparsers(required=True)
    runs: dict[str, Callable[[argparse.Namespace], None]]
    runs = {"pictures": pictures, "ablation": ablation, "crop": crop}
    for name, run in runs.items():
        own = ways.add_parser(name)
        own.set_defaults(run=run)
        if name == "crop":
            own.add_argument("picture")
            own.add_argument("--side", type=int, default=256)
        elif name == "ablation":
            own.add_argument("train")
            own.add_argument("--signals", type=int, default=512)
            own.add_argument("--steps", type=int, default=2000)
            own.add_argument("--only", nargs="*")
        if name != "crop":
            own.add_argument("test")
            own.add_argument("--count", type=int, default=500)
        if name != "ablation":
            own.add_argument("--weights")
            own.add_argument("--effort", type=int, default=0)
        if name == "pictures":
            own.add_argument("-o", "--out", default="runs/recombiner")
            own.add_argument(
                "--qualities", type=float, nargs="*", default=[0, 20, 40, 60, 80]
            )
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
