# SPDX-License-Identifier: Apache-2.0
"""What the files of `v1/` are made of: synthetic images and speech, and which options.

`make_v1.py` runs this with the package of commit 23bbb2c, and only with it.
"""

from __future__ import annotations

import pathlib

import numpy as np
import soundfile
from PIL import Image

from polycodec.codecs.files.media import write_image
from polycodec.codecs.files.picture import Picture

IMAGE_ENTROPY = ("context", "hyperprior", "checkerboard", "channel", "factorized")
RATE = 16000


def picture(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Smooth with some grain, (H, W, channels) float in [0, 1]."""
    rng = np.random.default_rng(seed)
    planes = []
    for _ in range(channels):
        small = rng.random((max(2, height // 18), max(2, width // 16)))
        image = Image.fromarray(small.astype(np.float32))
        planes.append(image.resize((width, height), Image.Resampling.BICUBIC))
    smooth = np.stack([np.asarray(plane) for plane in planes], axis=2)
    return np.clip(smooth + rng.normal(0, 0.015, smooth.shape), 0, 1)


def speech(seconds: float, channels: int, rate: int, seed: int) -> np.ndarray:
    """Swelling harmonics and noise, (samples, channels) float in [-0.7, 0.7]."""
    rng = np.random.default_rng(seed)
    t = np.arange(max(1, round(seconds * rate)))[:, None] / rate
    pitch = 110 * 2 ** (0.3 * np.sin(2 * np.pi * 0.7 * t) + 0.1 * np.arange(channels))
    phase = 2 * np.pi * np.cumsum(pitch, axis=0) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    swell = np.clip(np.sin(2 * np.pi * 1.9 * t), 0, None)
    return 0.25 * tone * swell + 0.02 * rng.normal(size=phase.shape)


def source_image(path: pathlib.Path, spec: dict) -> pathlib.Path:
    """Write an image: size, channels, depth, alpha and metadata of ``spec``."""
    height, width = spec.get("size", (72, 80))
    channels, depth = spec.get("channels", 3), spec.get("depth", 8)
    peak, kind = (1 << depth) - 1, np.uint8 if depth <= 8 else np.uint16
    samples = picture(height, width, channels, spec.get("seed", 11))
    pixels = np.rint(samples * peak).astype(kind)
    rng = np.random.default_rng(5)
    alpha = None
    if (shape := spec.get("alpha")) is not None:
        ramp = np.linspace(0, 1, width)[None] * np.linspace(1, 0.3, height)[:, None]
        plane = {
            "smooth": ramp,
            "mask": (ramp > 0.4).astype(float),
            "constant": np.full_like(ramp, 0.5),
            "noise": rng.random(ramp.shape),
        }[shape]
        alpha = np.rint(plane * peak).astype(kind)
        if spec.get("same"):
            alpha = (alpha >> 8) * 257
    notes = {}
    if spec.get("metadata"):
        notes = {"icc": b"icc " * 40, "xmp": b"<x:xmpmeta/>"}
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "golden"
        notes["exif"] = exif.tobytes().removeprefix(b"Exif\0\0")
    if depth in (10, 12):  # only netpbm holds these
        form = "P6" if channels == 3 else "P5"
        head = f"{form}\n{width} {height}\n{peak}\n".encode()
        path = path.with_suffix(".pnm")
        path.write_bytes(head + pixels.astype(">u2").tobytes())
    elif depth == 1:
        Image.fromarray(pixels[..., 0] > 0).save(path)
    else:
        write_image(Picture(pixels, depth, alpha=alpha, **notes), path, force=True)
    return path


def source_speech(path: pathlib.Path, spec: dict) -> pathlib.Path:
    """Write a recording: seconds, channels, rate and form of ``spec``."""
    rate = spec.get("rate", RATE)
    x = speech(spec.get("seconds", 1.3), spec.get("count", 1), rate, 12)
    path = path.with_suffix(spec.get("suffix", ".wav"))
    with soundfile.SoundFile(
        path, "w", rate, x.shape[1], spec.get("form", "PCM_16")
    ) as file:
        for name, value in spec.get("tags", {}).items():
            setattr(file, name, value)
        file.write(x)
    return path


DEEP, GRAY = {"depth": 16}, {"channels": 1}
LARGE = {"size": (150, 130)}
# Name of the file: its weights, its source, how it was encoded.
IMAGES = {
    **{f"rgb-q{q}": ("context", {}, {"quality": q}) for q in (0, 25, 33.33, 75, 100)},
    "gray": ("context", GRAY, {}),
    "gray-q90": ("context", GRAY, {"quality": 90}),
    "bilevel": ("context", {**GRAY, "depth": 1}, {}),
    "deep-rgb": ("context", DEEP, {"quality": 60}),
    "deep-gray": ("context", {**DEEP, **GRAY}, {"quality": 95}),
    "depth-10": ("context", {"depth": 10}, {}),
    "depth-12-gray": ("context", {"depth": 12, **GRAY}, {}),
    "alpha-smooth": ("context", {"alpha": "smooth"}, {}),
    "alpha-mask": ("context", {"alpha": "mask"}, {}),
    "alpha-constant": ("context", {"alpha": "constant"}, {}),
    "alpha-noise": ("context", {"alpha": "noise", "size": (24, 20)}, {}),
    "alpha-gray": ("context", {"alpha": "smooth", **GRAY}, {}),
    "alpha-deep": ("context", {"alpha": "smooth", **DEEP, "size": (40, 36)}, {}),
    "alpha-deep-same": ("context", {"alpha": "smooth", "same": True, **DEEP}, {}),
    "alpha-coded": ("context", {"alpha": "smooth"}, {"alpha": "codec"}),
    "alpha-coded-deep": ("context", {"alpha": "mask", **DEEP}, {"alpha": "codec"}),
    "tiles-64": ("context", LARGE, {"tile": 64}),
    "tiles-64-q100": ("context", LARGE, {"tile": 64, "quality": 100}),
    "tiles-64-gray-deep": ("context", {**LARGE, **GRAY, **DEEP}, {"tile": 64}),
    "tiles-64-alpha": ("context", {**LARGE, "alpha": "mask"}, {"tile": 64}),
    "tiles-128": ("context", LARGE, {"tile": 128}),
    "metadata": ("context", {"metadata": True}, {}),
    "one-pixel": ("context", {"size": (1, 1)}, {}),
    "one-row": ("context", {"size": (1, 150)}, {}),
    "one-column": ("context", {"size": (130, 1)}, {}),
    "odd": ("context", {"size": (33, 17)}, {"quality": 80}),
    "effort": ("context", {}, {"effort": 4}),
    "target-bpp": ("context", {}, {"target_bpp": 0.35}),
    "min-psnr": ("context", {}, {"min_psnr": 21.0}),
    **{
        f"{entropy}{'-tiles' if spec else ''}": (
            entropy, spec, {"tile": 64 if spec else 0, "quality": 80}
        )
        for entropy in IMAGE_ENTROPY if entropy != "context"
        for spec in ({}, LARGE)
    },
}  # fmt: skip
KEEP = {"channels": "keep"}
SPEECH = {
    **{f"static-q{q}": ("static", {}, {"quality": q}) for q in (0, 50, 100)},
    "static-keep": ("static", {"count": 2, "rate": 44100}, {**KEEP, "quality": 100}),
    "static-mix": ("static", {"count": 2, "rate": 22050, "form": "PCM_24"}, {}),
    "static-chunks": ("static", {"seconds": 3.4}, {"quality": 100}),
    "static-kbps": ("static", {"seconds": 4.2}, {"target_kbps": 0.9}),
    "static-8k": ("static", {"rate": 8000}, {}),
    "static-48k-float": ("static", {"rate": 48000, "form": "FLOAT"}, {}),
    "static-tags": (
        "static", {"suffix": ".flac", "tags": {"title": "Gold", "artist": "Ä"}}, {}
    ),
    "static-one-sample": ("static", {"seconds": 0}, {"quality": 100}),
    **{f"adaptive-q{q}": ("adaptive", {}, {"quality": q}) for q in (0, 67, 100)},
    "adaptive-keep": (
        "adaptive", {"count": 2, "rate": 24000, "seconds": 2.4},
        {**KEEP, "quality": 100},
    ),
    "attention-chunks": ("attention", {"seconds": 2.2}, {"quality": 100}),
    "attention-q0": ("attention", {}, {"quality": 0}),
    **{f"latent-q{q}": ("latent", {}, {"quality": q}) for q in (0, 33, 67, 100)},
    "latent-keep": (
        "latent", {"count": 2, "rate": 32000, "seconds": 2.4}, {**KEEP, "quality": 100}
    ),
    "latent-kbps": ("latent", {"seconds": 4.2}, {"target_kbps": 4.0}),
}  # fmt: skip
TOKENS = {  # of these speech files
    "tokens-static": "static-q100",
    "tokens-keep": "static-keep",
    "tokens-rates": "static-kbps",  # levels that a chunk has not are -1
    "tokens-adaptive": "adaptive-keep",
    "tokens-attention": "attention-chunks",
}
