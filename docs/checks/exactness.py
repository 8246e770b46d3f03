# SPDX-License-Identifier: Apache-2.0
"""Does every file decode to the same latents, whatever decodes it?

    python docs/checks/exactness.py encode IMAGES OUT     files and hashes, one thread
    python docs/checks/exactness.py decode OUT            every variant, in this process

`decode` may run under another version of torch, on another machine or on a GPU: the
folder OUT holds all it needs. A hash is the SHA-256 of the decoded latents.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import torch

from polycodec.codecs import zoo
from polycodec.codecs.files.api import encode
from polycodec.codecs.files.container import Reader
from polycodec.entropy_models.exact import without_onednn

QUALITIES = (0, 14, 28, 42, 56, 70, 84, 100)


def sha(y_hat: torch.Tensor) -> str:
    """SHA-256 of latents, signed zeros made equal."""
    return hashlib.sha256((y_hat.float().cpu() + 0.0).numpy().tobytes()).hexdigest()


def payload(path: Path) -> tuple[bytes, tuple[int, int]]:
    """The only chunk of a file and its (height, width)."""
    with open(path, "rb") as file:
        reader = Reader(file)
        geometry = reader.header.geometry
        return reader.chunk(0), (geometry.height, geometry.width)


def make(images: Path, out: Path, codec) -> None:
    """Encode every image at every quality with one thread; keep the hashes."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for image in sorted(images.iterdir()):
        for quality in QUALITIES:
            target = out / f"{image.stem}-{quality}.plc"
            encode(image, target, quality=quality, tile=0, codec=codec, force=True)
            data, size = payload(target)
            hashes[target.name] = sha(
                codec.decode_latents([data], *codec.latent_size(*size))
            )
        print(image.name, flush=True)
    (out / "hashes.json").write_text(json.dumps(hashes))


def check(out: Path, codec) -> dict[str, dict[str, int]]:
    """Decode under every variant; count the files and the differences."""
    expected = json.loads((out / "hashes.json").read_text())
    files = {name: payload(out / name) for name in expected}
    device = next(codec.parameters()).device.type
    no_mkldnn = without_onednn()
    variants = {
        "one thread": (1, 1, None, contextlib.nullcontext()),
        "two threads": (2, 1, None, contextlib.nullcontext()),
        "batch of 8": (2, 8, None, contextlib.nullcontext()),
        "contiguous weights": (2, 1, torch.contiguous_format, contextlib.nullcontext()),
        "channels_last": (2, 1, torch.channels_last, contextlib.nullcontext()),
        "oneDNN off": (2, 1, None, no_mkldnn),
    }
    table = {}
    for name, (threads, batch, layout, context) in variants.items():
        torch.set_num_threads(threads)
        if layout:
            codec.to(memory_format=layout)
        with context:
            wrong = sum(
                found != expected[file] for file, found in decode(codec, files, batch)
            )
        table[f"{device}, {name}"] = {"files": len(files), "different": wrong}
        print(f"{device}, {name}: {len(files)} files, {wrong} different", flush=True)
    return table


def decode(codec, files: dict, batch: int):
    """Yield (file, hash of its latents); files of one size go together."""
    alike = defaultdict(list)
    for name, (_, size) in files.items():
        alike[size].append(name)
    for size, names in alike.items():
        for start in range(0, len(names), batch):
            group = names[start : start + batch]
            data = [files[name][0] for name in group]
            y_hat = codec.decode_latents(data, *codec.latent_size(*size))
            yield from zip(group, map(sha, y_hat.split(1)), strict=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("encode", "decode"))
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    codec = zoo.load(device=args.device, checkpoint=args.checkpoint)
    if args.action == "encode":
        make(args.folders[0], args.folders[1], codec)
    else:
        table = check(args.folders[0], codec)
        result = {"torch": torch.__version__, "table": table}
        (args.folders[0] / f"result-{torch.__version__}.json").write_text(
            json.dumps(result, indent=1)
        )


if __name__ == "__main__":
    main()
