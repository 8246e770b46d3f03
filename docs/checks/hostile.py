# SPDX-License-Identifier: Apache-2.0
"""What damaged files do: a named error, nothing, wrong pixels, or a crash?

    python docs/checks/hostile.py PHOTO
    python docs/checks/hostile.py SOUND --model speech/default

Every single-byte flip and every truncation of a file of about 1.5 kB, 2,000 random
mutations of one of about 20 kB (of sound: two chunks), 500 inputs of random bytes.
`harmless`: the pixels or samples are those of the undamaged file. `silent`: others and
no error; `crash`: an exception that is not one of ours. The last two must be 0.
"""

from __future__ import annotations

import argparse
import io
import json
import wave
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polycodec.codecs import zoo
from polycodec.codecs.files.api import decode, encode
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.image.decode import read_plc
from polycodec.codecs.files.speech.read import open_speech
from polycodec.errors import CodecError


def decoded(codec, data: bytes) -> np.ndarray:
    """Pixels of an image file; of a sound file the bytes of its WAV."""
    if codec.kind == "image":
        return read_plc(Reader(io.BytesIO(data)), codec=codec)[0].pixels
    target = io.BytesIO()
    decode(io.BytesIO(data), target, codec=codec)
    return np.frombuffer(target.getvalue(), np.uint8)


def judge(codec, data: bytes, expected: np.ndarray) -> str:
    """Decode ``data`` and name what happened."""
    try:
        found = decoded(codec, data)
    except CodecError:
        return "named error"
    except Exception as error:  # what this check exists to find
        return f"crash: {type(error).__name__}: {error}"
    return "harmless" if np.array_equal(found, expected) else "silent"


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


def coded(codec, source: io.BytesIO, **rate: float) -> tuple[bytes, np.ndarray]:
    """A file of one source, and what it decodes to."""
    target = io.BytesIO()
    encode(source, target, codec=codec, **rate)
    return target.getvalue(), decoded(codec, target.getvalue())


def png(image: Image.Image) -> io.BytesIO:
    """A PNG with an ICC-free EXIF."""
    source, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "a description that may be damaged"
    image.save(source, "PNG", exif=exif)
    source.seek(0)
    return source


def wav(path: Path, seconds: float) -> io.BytesIO:
    """The first seconds of a sound, repeated if it is shorter, as a 16-bit WAV."""
    with open_speech(path) as sound:
        rate = sound.info.rate
        samples = np.concatenate(list(sound.blocks()))[:, 0]
    samples = np.resize(samples, round(seconds * rate))
    source = io.BytesIO()
    with wave.open(source, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    source.seek(0)
    return source


def pair(codec, path: Path) -> list[tuple[bytes, np.ndarray]]:
    """A small and a large file with what they decode to."""
    if codec.kind == "image":
        photo = Image.open(path).convert("RGB")
        small, large = photo.crop((0, 0, 160, 128)), photo.crop((0, 0, 384, 256))
        return [
            coded(codec, png(small), target_size=1500),
            coded(codec, png(large), target_size=20000),
        ]
    return [
        coded(codec, wav(path, 3.0), target_size=1500),
        coded(codec, wav(path, 14.0), quality=50),
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--model", default="image/default")
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = zoo.load(args.model, checkpoint=args.checkpoint)
    rng = np.random.default_rng(1)
    (small, expected), (large, expected_large) = pair(codec, args.source)
    noise = (rng.bytes(int(n)) for n in rng.integers(0, 4096, 500))
    table = {
        f"flips of {len(small)} bytes": count(codec, flips(small), expected),
        f"cuts of {len(small)} bytes": count(
            codec, (small[:n] for n in range(len(small))), expected
        ),
        f"mutations of {len(large)} bytes": count(
            codec, mutations(large, 2000, rng), expected_large
        ),
        "random bytes": count(codec, noise, expected),
    }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
