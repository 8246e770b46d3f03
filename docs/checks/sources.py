# SPDX-License-Identifier: Apache-2.0
"""Clips that were damaged before we got them: which are refused, which pass as whole?

    python docs/checks/sources.py [--count 100] [--seed 1]

A short clip in containers and codings that people have, of which one bit is changed, or
the end is cut off, at random; then it is read as `encode` reads it.

    refused    an error that says how many frames were good
    same       the frames of the clip as it was: the bit was of something else
    silent     other frames, or fewer, and no error
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
from collections import Counter

import av
import numpy as np

from polycodec.codecs.files.video.read import open_video
from polycodec.errors import CodecError

# Container, codec, options: what encoders write unless told.
FORMS = {
    "MP4, H.264": ("mp4", "libx264", {}),
    "Matroska, H.264": ("matroska", "libx264", {}),
    "Matroska, FFV1 with CRCs": ("matroska", "ffv1", {"level": "3", "slicecrc": "1"}),
    "Matroska, FFV1 without": ("matroska", "ffv1", {"level": "1"}),
    "WebM, VP9": ("webm", "libvpx-vp9", {"cpu-used": "8"}),
    "AVI, MPEG-4": ("avi", "mpeg4", {}),
    "Y4M": ("yuv4mpegpipe", "wrapped_avframe", {}),
}
FRAMES, WIDTH, HEIGHT = 12, 96, 64


def clip(container: str, codec: str, options: dict[str, str]) -> bytes:
    """A ball that flies over noise."""
    rng, target = np.random.default_rng(0), io.BytesIO()
    noise = rng.integers(0, 80, (HEIGHT, WIDTH, 3))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    with av.open(target, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(FRAMES):
            ball = 150 * np.exp(-((x - 7 * k) ** 2 + (y - 30) ** 2) / 90.0)
            pixels = (noise + ball[..., None]).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode())
    return target.getvalue()


def read(data: bytes) -> list[bytes]:
    """The planes of all frames."""
    with open_video(io.BytesIO(data)) as video:
        return [plane.tobytes() for f in video.frames() for plane in f.planes]


def verdict(data: bytes, wanted: list[bytes]) -> str:
    """What becomes of a damaged clip."""
    try:
        return "same" if read(data) == wanted else "silent"
    except CodecError:
        return "refused"


@contextlib.contextmanager
def quiet():
    """FFmpeg speaks to the terminal itself."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)


def main() -> None:
    """Print a row for each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print("| a clip | bytes | one bit changed | its end cut off |\n|---|---|---|---|")
    for name, form in FORMS.items():
        rng = random.Random(args.seed)
        data = clip(*form)
        wanted = read(data)
        changed: Counter[str] = Counter()
        cut: Counter[str] = Counter()
        with quiet():
            for _ in range(args.count):
                other = bytearray(data)
                other[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                changed[verdict(bytes(other), wanted)] += 1
                end = rng.randrange(len(data) // 10, len(data))
                cut[verdict(data[:end], wanted)] += 1
        cells = [
            ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
            for counts in (changed, cut)
        ]
        print(f"| {name} | {len(data):,} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
