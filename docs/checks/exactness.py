# SPDX-License-Identifier: Apache-2.0
"""Does every file decode to the same latents or tokens, whatever decodes it?

    python docs/checks/exactness.py encode FOLDER OUT     files and hashes, one thread
    python docs/checks/exactness.py decode OUT            every variant, in this process

FOLDER holds images, or sounds with `--model speech/default`. `decode` may run under
another version of torch, on another machine or on a GPU: the folder OUT holds all it
needs. A hash is the SHA-256 of the decoded latents of an image, of the tokens of all
chunks of a sound.
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
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.speech.chunks import unpack_chunk
from polycodec.entropy_models.exact.carrier import without_onednn

QUALITIES = (0, 14, 28, 42, 56, 70, 84, 100)


def sha(y_hat: torch.Tensor) -> str:
    """SHA-256 of latents or tokens, signed zeros made equal."""
    return hashlib.sha256((y_hat.float().cpu() + 0.0).numpy().tobytes()).hexdigest()


def payloads(path: Path) -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Streams of a file by name, each with its shape.

    An image's only chunk with (height, width), a sound's chunks with (levels, frames).
    """
    with open(path, "rb") as file:
        reader = Reader(file)
        geometry = reader.header.geometry
        if reader.header.kind == "image":
            return {path.name: (reader.chunk(0), (geometry.height, geometry.width))}
        found = {}
        for k in range(reader.n_chunks):
            levels, (stream,) = unpack_chunk(reader.chunk(k), 1)
            samples = min(geometry.span, geometry.coded_samples - k * geometry.span)
            found[f"{path.name} {k}"] = (stream, (levels, samples))
        return found


def decoded(codec, data: list[bytes], shape: tuple[int, int]) -> torch.Tensor:
    """What the entropy coder gives back for streams of one shape, (B, ...)."""
    if codec.kind == "image":
        return codec.read(data, 0, codec.grid(shape))
    levels, samples = shape
    return codec.read(data, levels, (-(-samples // codec.stride),))


def make(folder: Path, out: Path, codec) -> None:
    """Encode every file at every quality with one thread; keep the hashes."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    hashes = {}
    options = {"tile": 0} if codec.kind == "image" else {}
    for source in sorted(folder.iterdir()):
        for quality in QUALITIES:
            target = out / f"{source.stem}-{quality}.plc"
            encode(source, target, quality=quality, codec=codec, force=True, **options)
            for name, (data, shape) in payloads(target).items():
                hashes[name] = sha(decoded(codec, [data], shape))
        print(source.name, flush=True)
    (out / "hashes.json").write_text(json.dumps(hashes))


def check(out: Path, codec) -> dict[str, dict[str, int]]:
    """Decode under every variant; count the streams and the differences."""
    expected = json.loads((out / "hashes.json").read_text())
    names = sorted({name[: name.rindex(".plc") + 4] for name in expected})
    files = {k: v for name in names for k, v in payloads(out / name).items()}
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
    """Yield (stream, hash of what it decodes to); those of one shape go together."""
    alike = defaultdict(list)
    for name, (_, size) in files.items():
        alike[size].append(name)
    for size, names in alike.items():
        for start in range(0, len(names), batch):
            group = names[start : start + batch]
            data = [files[name][0] for name in group]
            yield from zip(
                group, map(sha, decoded(codec, data, size).split(1)), strict=True
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("encode", "decode"))
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="image/default")
    parser.add_argument("--checkpoint")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    codec = zoo.load(args.model, args.device, checkpoint=args.checkpoint)
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
