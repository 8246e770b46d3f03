# SPDX-License-Identifier: Apache-2.0
"""Does every stream decode to the same latents or tokens, whatever decodes it?

    python docs/checks/exactness.py encode FOLDER OUT     streams and hashes, one thread
    python docs/checks/exactness.py decode OUT            every variant, in this process

FOLDER holds images, or sounds with `--model speech/default`; a codec of features takes
images too (`--checkpoint RUN`). `decode` may run under
another version of torch, on another machine or on a GPU: the folder OUT holds all it
needs. Streams are those of `codec.compress`; a hash is the SHA-256 of the latents of
an image, of the tokens of a sound.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from references import shuffled

from polycodec.codecs import zoo
from polycodec.entropy_models.exact.carrier import without_onednn
from polycodec.entropy_models.exact.layer import exact_layers
from polycodec.eval.image.datasets import IMAGES
from polycodec.eval.speech.datasets import SPEECH

QUALITIES = (0, 14, 28, 42, 56, 70, 84, 100)


def sha(y_hat: torch.Tensor) -> str:
    """SHA-256 of latents or tokens, signed zeros made equal."""
    return hashlib.sha256((y_hat.float().cpu() + 0.0).numpy().tobytes()).hexdigest()


def decoded(codec, data: list[bytes]) -> torch.Tensor:
    """What the entropy coder gives back for streams of one head, (B, ...)."""
    size = codec.signal.head_size
    head, streams = data[0][:size], [item[size:] for item in data]
    shape, value = codec.signal.parse(data[0])
    level = codec.signal.level_in(codec, value)
    return codec.read(streams, level, codec.grid(shape), context=head)


def make(folder: Path, out: Path, codec) -> None:
    """Compress every file at every quality with one thread; keep the hashes."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    hashes = {}
    pictures = codec.kind != "speech"
    data_set = IMAGES if pictures else SPEECH
    for path in data_set.files_in(folder):
        signal = data_set.item(path.name, path).read()
        read = torch.from_numpy(np.ascontiguousarray(signal))
        x = read.movedim(-1, 0) if pictures else read[None]
        for quality in QUALITIES:
            [data] = codec.compress(x, quality)
            name = f"{path.stem}-{quality}.bin"
            (out / name).write_bytes(data)
            hashes[name] = sha(decoded(codec, [data]))
        print(path.name, flush=True)
    (out / "hashes.json").write_text(json.dumps(hashes))


def check(out: Path, codec) -> dict[str, dict[str, int]]:
    """Decode under every variant; count the streams and the differences."""
    expected = json.loads((out / "hashes.json").read_text())
    files = {name: (out / name).read_bytes() for name in expected}
    device = next(codec.parameters()).device.type
    no_mkldnn = without_onednn()
    variants = {
        "one thread": (1, 1, None, contextlib.nullcontext()),
        "two threads": (2, 1, None, contextlib.nullcontext()),
        "batch of 8": (2, 8, None, contextlib.nullcontext()),
        "contiguous weights": (2, 1, torch.contiguous_format, contextlib.nullcontext()),
        "channels_last": (2, 1, torch.channels_last, contextlib.nullcontext()),
        "oneDNN off": (2, 1, None, no_mkldnn),
        "other orders of sums": (1, 1, None, shuffled(torch.Generator())),
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


def decode(codec, files: dict[str, bytes], batch: int):
    """Yield (name, hash of what it decodes to); those of one head go together."""
    alike = defaultdict(list)
    for name, data in files.items():
        alike[data[: codec.signal.head_size]].append(name)
    for names in alike.values():
        for start in range(0, len(names), batch):
            group = names[start : start + batch]
            codes = decoded(codec, [files[name] for name in group])
            yield from zip(group, map(sha, codes.split(1)), strict=True)


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
    layers = exact_layers(codec)
    hold = sum(layer.certificate(name).holds for name, layer in layers.items())
    print(f"{hold} of {len(layers)} certificates hold", flush=True)
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
