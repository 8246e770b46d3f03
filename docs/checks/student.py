# SPDX-License-Identifier: Apache-2.0
"""How often is a class right for how many bytes: features, or pictures made smaller?

    python docs/checks/student.py TEST --teacher runs/student-teacher \\
        --student runs/student-answers [--model image/default] [--count 1000]

TEST holds a folder of pictures for each class, none of them trained on. The student is
an exported run of the feature family and codes at each of its levels; its teacher, a
run of the task features/classes, reads the pictures as they are, and as JPEG, WebP and
the codec of images leave them. Two counts of bytes:

    file      every byte of a file: of a small picture mostly headers and tables
    payload   what changes from picture to picture: of JPEG the scan and its end marker
              without tables, of WebP the frame without RIFF, of ours the stream with
              its seal

Accuracy at ``--at`` bytes is taken off straight lines over the logarithm of bytes; a
format whose smallest picture is larger has none. With the encoder's parameters,
multiplications a picture, and milliseconds on one thread.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import polycodec
from polycodec.codecs import zoo
from polycodec.codecs.families.feature import FeatureCodec
from polycodec.codecs.files.container.file import Reader
from polycodec.eval.machine import machine
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.export import averaged_codec

BATCH = 100
JPEG = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 92)
WEBP = (0, 1, 2, 4, 8, 16, 32, 50, 70, 85, 95)
OURS = (0, 5, 10, 20, 30, 40, 50, 60, 75, 90)

Sizes = tuple[int, int]  # of a file, and of its payload
Coder = Callable[[np.ndarray], tuple[Sizes, np.ndarray]]


def read(folder: Path, count: int, labels: tuple[str, ...]) -> tuple[list, Tensor]:
    """Pictures (H, W, 3) uint8, evenly of all classes, and their classes."""
    every = sorted(path for path in folder.glob("*/*") if path.is_file())
    count = min(count, len(every))
    chosen = [every[k * len(every) // count] for k in range(count)]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in chosen]
    return pictures, torch.tensor([labels.index(p.parent.name) for p in chosen])


def tensor(pictures: list[np.ndarray]) -> Tensor:
    """Pictures of one size (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def right(teacher: FeatureCodec, pictures: list[np.ndarray], classes: Tensor) -> float:
    """How often the teacher is right of pictures, not coded."""
    found = []
    for first in range(0, len(pictures), BATCH):
        x = teacher.signal.checked(tensor(pictures[first : first + BATCH]))
        out = teacher(x, torch.ones(len(x)), quantize=False)
        found.append(out.logits.argmax(1))
    return float((torch.cat(found) == classes).float().mean())


def by_pillow(form: str, payload: Callable[[bytes], int], **given: object) -> Coder:
    """A format of Pillow's at given options."""

    def code(pixels: np.ndarray) -> tuple[Sizes, np.ndarray]:
        Image.fromarray(pixels).save(out := io.BytesIO(), format=form, **given)
        data = out.getvalue()
        back = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        return (len(data), payload(data)), back

    return code


def scan_of(data: bytes) -> int:
    """Bytes of a baseline JPEG from the end of its last header on."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data) - at - 2 - int.from_bytes(data[at + 2 : at + 4], "big")


def frame_of(data: bytes) -> int:
    """Bytes of a WebP without RIFF's and the chunk's headers."""
    return len(data) - 20


def by_model(codec: polycodec.Codec, quality: float) -> Coder:
    """A codec of images, each picture by itself in a file."""

    def code(pixels: np.ndarray) -> tuple[Sizes, np.ndarray]:
        Image.fromarray(pixels).save(png := io.BytesIO(), format="PNG")
        data = polycodec.encode(png.getvalue(), codec=codec, quality=quality).data
        payload = len(Reader(io.BytesIO(data)).chunk(0))
        png = polycodec.decode(data, codec=codec).data
        return (len(data), payload), np.asarray(Image.open(io.BytesIO(png)))

    return code


def curve(
    name: str,
    points: Iterator[tuple[float, Coder]],
    teacher: FeatureCodec,
    pictures: list[np.ndarray],
    classes: Tensor,
) -> list[dict[str, float]]:
    """Bytes, and how often the teacher is right of what a format leaves, by quality."""
    rows = []
    for quality, code in points:
        coded = [code(pixels) for pixels in pictures]
        file, payload = np.mean([sizes for sizes, _ in coded], 0)
        accuracy = right(teacher, [back for _, back in coded], classes)
        row = {"quality": quality, "file": float(file), "payload": float(payload)}
        rows.append({**row, "accuracy": accuracy})
        print(name, *(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
    return rows


def student_curve(
    student: FeatureCodec, pictures: list[np.ndarray], classes: Tensor
) -> list[dict[str, float]]:
    """The same of the student's files, by level."""
    rows = []
    for level in range(1, student.levels + 1):
        quality, files, found = student.quality_of(level), [], []
        for first in range(0, len(pictures), BATCH):
            part = pictures[first : first + BATCH]
            made = polycodec.features_of(list(map(png_of, part)), student, quality)
            found.append(polycodec.classify_all(made, student).argmax(1))
            files += made
        chunks = [len(Reader(io.BytesIO(data)).chunk(0)) for data in files]
        row = {"level": level, "file": float(np.mean(list(map(len, files))))}
        row["payload"] = float(np.mean(chunks))
        row["accuracy"] = float((torch.cat(found) == classes).float().mean())
        rows.append(row)
        print("student", *(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    return rows


def png_of(pixels: np.ndarray) -> bytes:
    """A PNG file."""
    Image.fromarray(pixels).save(out := io.BytesIO(), format="PNG")
    return out.getvalue()


def at_bytes(rows: list[dict[str, float]], count: str, wanted: float) -> float | None:
    """Accuracy at ``wanted`` bytes; None where no picture is as small."""
    rows = sorted(rows, key=lambda row: row[count])
    sizes = np.log([row[count] for row in rows])
    if np.log(wanted) < sizes[0]:
        return None
    return float(np.interp(np.log(wanted), sizes, [row["accuracy"] for row in rows]))


def multiplications(network: nn.Module, x: Tensor) -> int:
    """Multiplications of convolutions and normalisations of a run."""
    total = 0

    def count(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        positions = out[0, 0].numel()
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel() * positions
        elif hasattr(module, "gamma"):  # GDN: a 1x1 convolution
            total += (module.gamma.numel() + module.gamma.shape[0]) * positions

    hooks = [m.register_forward_hook(count) for m in network.modules()]
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    return total


def encoder_of(student: FeatureCodec) -> dict[str, float]:
    """Parameters, multiplications and milliseconds of what runs on the device."""
    size = student.signal.size
    g_a, x = student.transform.g_a, torch.rand(1, 3, size, size)
    spent = []
    with torch.inference_mode():
        for _ in range(30):
            started = time.perf_counter()
            g_a(student.signal.prepared(x))
            spent.append(time.perf_counter() - started)
    return {
        "parameters": sum(p.numel() for p in g_a.parameters()),
        "multiplications": multiplications(g_a, x),
        "milliseconds": 1000 * float(np.median(spent)),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--model", default="image/default", help="none: leave it out")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--at", type=float, default=150)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    state = read_checkpoint(args.teacher)
    teacher = averaged_codec(state, parse_config(json.loads(state["config"])))
    name = zoo.card_of_run(args.student)["name"]  # files hold it
    student = zoo.load(name, checkpoint=args.student)
    assert isinstance(teacher, FeatureCodec) and isinstance(student, FeatureCodec)
    pictures, classes = read(args.test, args.count, teacher.labels)
    told: dict[str, object] = {"machine": machine(), "pictures": len(pictures)}
    told["encoder"] = encoder_of(student)
    told["clean"] = right(teacher, pictures, classes)
    print("encoder", told["encoder"], "clean", told["clean"], flush=True)
    more = teacher, pictures, classes
    jpeg = {"optimize": True, "subsampling": 2}
    curves = {
        "student": student_curve(student, pictures, classes),
        "jpeg": curve(
            "jpeg",
            ((q, by_pillow("JPEG", scan_of, quality=q, **jpeg)) for q in JPEG),
            *more,
        ),
        "webp": curve(
            "webp",
            ((q, by_pillow("WEBP", frame_of, quality=q, method=6)) for q in WEBP),
            *more,
        ),
    }
    if args.model != "none":
        model = zoo.load(args.model)
        points = ((q, by_model(model, q)) for q in OURS)
        curves[args.model] = curve(args.model, points, *more)
    told["curves"] = curves
    for count in ("file", "payload"):
        told[f"at {args.at:g} bytes of {count}"] = found = {
            name: at_bytes(rows, count, args.at) for name, rows in curves.items()
        }
        print(f"at {args.at:g} bytes of {count}:", found, flush=True)
    if args.out:
        args.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
