# SPDX-License-Identifier: Apache-2.0
"""What damaged files do: a named error, nothing, wrong pixels, or a crash?

    python docs/checks/hostile.py PHOTO

Every single-byte flip and every truncation of a file of about 1.5 kB, 2,000 random
mutations of one of about 20 kB, 500 inputs of random bytes. `harmless`: the pixels are
those of the undamaged file. `silent`: other pixels and no error; `crash`: an
exception that is not one of ours. The last two must be 0.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polycodec.codecs import zoo
from polycodec.codecs.files.api import encode, read_plc
from polycodec.codecs.files.container import Reader
from polycodec.errors import CodecError


def judge(codec, data: bytes, expected: np.ndarray) -> str:
    """Decode ``data`` and name what happened."""
    try:
        picture, _ = read_plc(Reader(io.BytesIO(data)), codec=codec)
    except CodecError:
        return "named error"
    except Exception as error:  # what this check exists to find
        return f"crash: {type(error).__name__}: {error}"
    return "harmless" if np.array_equal(picture.pixels, expected) else "silent"


def count(codec, cases: Iterable[bytes], expected: np.ndarray) -> dict[str, int]:
    """How often each verdict occurs."""
    return dict(Counter(judge(codec, case, expected) for case in cases))


def flips(data: bytes) -> Iterator[bytes]:
    """One byte changed, every byte once with each of three patterns."""
    for i in range(len(data)):
        for pattern in (0x01, 0x80, 0xFF):
            yield data[:i] + bytes([data[i] ^ pattern]) + data[i + 1 :]


def mutations(data: bytes, count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Random edits: bytes changed, removed, inserted, repeated, swapped."""
    for _ in range(count):
        out = bytearray(data)
        for _ in range(int(rng.integers(1, 6))):
            i, j = sorted(int(v) for v in rng.integers(0, len(out), 2))
            j = min(j, i + 64)
            kind = int(rng.integers(5))
            if kind == 0:
                out[i] = int(rng.integers(256))
            elif kind == 1:
                del out[i : j + 1]
            elif kind == 2:
                out[i:i] = rng.bytes(int(rng.integers(1, 16)))
            elif kind == 3:
                out[i:i] = out[i:j]
            else:
                out[i:j] = out[i:j][::-1]
            if not out:
                out = bytearray(b"\0")
        if bytes(out) != data:
            yield bytes(out)


def coded(codec, image: Image.Image, size: int) -> tuple[bytes, np.ndarray]:
    """A file of at most ``size`` bytes with an ICC-free EXIF, and its pixels."""
    source, target = io.BytesIO(), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a description that may be damaged"
    image.save(source, "PNG", exif=exif)
    source.seek(0)
    encode(source, target, target_size=size, codec=codec)
    data = target.getvalue()
    return data, read_plc(Reader(io.BytesIO(data)), codec=codec)[0].pixels


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = zoo.load(checkpoint=args.checkpoint)
    photo, rng = Image.open(args.photo).convert("RGB"), np.random.default_rng(1)
    small, small_pixels = coded(codec, photo.crop((0, 0, 160, 128)), 1500)
    large, large_pixels = coded(codec, photo.crop((0, 0, 384, 256)), 20000)
    noise = (rng.bytes(int(n)) for n in rng.integers(0, 4096, 500))
    table = {
        f"flips of {len(small)} bytes": count(codec, flips(small), small_pixels),
        f"cuts of {len(small)} bytes": count(
            codec, (small[:n] for n in range(len(small))), small_pixels
        ),
        f"mutations of {len(large)} bytes": count(
            codec, mutations(large, 2000, rng), large_pixels
        ),
        "random bytes": count(codec, noise, small_pixels),
    }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
