# SPDX-License-Identifier: Apache-2.0
"""Whole codecs for check.py: files both ways, nothing that waits, time of one image.

files   what one device coded, the other decodes to the same latents, and codes
        again, from the decoded integers, to the same bytes (the transform before
        them is ordinary floating point and may round otherwise)
waits   between the passes of a decoder nothing waits for the device
image   milliseconds of one image, with the coder on the device and on the host
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.entropy_models import streams
from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.coders import RangeDecoder

QUALITIES = (10.0, 50.0, 90.0)


@dataclass
class Side:
    """A codec on a device, and what must be on while it is used."""

    name: str
    codec: Codec
    using: Callable[[], AbstractContextManager] = field(default=contextlib.nullcontext)

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device


@contextlib.contextmanager
def coded_by(runtime) -> Iterator[None]:
    """Let ``runtime`` code for every device; None: the host."""
    before, streams.runtime_of = streams.runtime_of, lambda _: runtime
    try:
        yield
    finally:
        streams.runtime_of = before


class Recorder(RangeDecoder):
    """A decoder that keeps the integers of every pass."""

    def __init__(self, data: list[bytes], **options) -> None:
        super().__init__(data, **options)
        self.passes: list[Tensor] = []

    def code(self, value: None, prior, shape: tuple[int, ...]) -> Tensor:
        """Read the next values; see RangeDecoder."""
        coded = prior.read(self.streams, shape)
        self.passes.append(coded.to(prior.device))
        return self.passes[-1] + prior.offsets


class Replay(Coder):
    """An encoder of integers that are known already."""

    def __init__(self, passes: list[Tensor], device: torch.device) -> None:
        self.passes, self.streams = passes, streams.writer(len(passes[0]), device)

    def code(self, value: None, prior, shape: tuple[int, ...]) -> Tensor:
        """Code the next pass."""
        coded = self.passes.pop(0)
        prior.write(self.streams, coded)
        return coded + prior.offsets


@torch.inference_mode()
def coded_again(side: Side, data: list[bytes], size: tuple) -> tuple[Tensor, list]:
    """Latents of streams, and the streams that their integers give."""
    with side.using():
        reader = Recorder(data, device=side.device)
        y_hat = side.codec.entropy.code(reader, None, size)
        reader.finish()
        writer = Replay(reader.passes, side.device)
        side.codec.entropy.code(writer, None, size)
        return y_hat.cpu(), writer.streams.finish()


def pictures(folder: Path | None, size: tuple[int, int]) -> Iterator[Tensor]:
    """(1, 3, H, W) images of a folder, or a made up one of ``size``."""
    if folder is None:
        noise = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1))
        yield torch.nn.functional.interpolate(noise, size, mode="bicubic").clamp(0, 1)
        return
    for path in sorted(folder.iterdir()):
        pixels = np.array(Image.open(path).convert("RGB"))
        yield torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


@torch.inference_mode()
def files(sides: list[Side], images: list[Tensor]) -> dict:
    """Count files, and those that come back otherwise, for every pair of sides."""
    table = {}
    for made in sides:
        for read in sides:
            if made is read:
                continue
            row = {"files": 0, "latents differ": 0, "bytes differ": 0}
            for x in images:
                for quality in QUALITIES:
                    data, y_hat, size = encode(made, x, quality)
                    found, again = coded_again(read, data, size)
                    row["files"] += 1
                    row["latents differ"] += not torch.equal(found, y_hat)
                    row["bytes differ"] += again != data
            table[f"{made.name} to {read.name}"] = row
    if any(row["latents differ"] or row["bytes differ"] for row in table.values()):
        raise AssertionError(f"files differ: {table}")
    return table


def encode(side: Side, x: Tensor, quality: float) -> tuple[list, Tensor, tuple]:
    """Streams of an image, its decoded latents and their (B, h, w)."""
    codec = side.codec
    with side.using():
        level = codec.level_of(quality)
        y = codec.encode_codes(x.to(side.device), level)
        coded = codec.write(y, level)
    return coded.data, coded.codes.cpu(), (1, *y.shape[2:])


@torch.inference_mode()
def waits(side: Side, x: Tensor) -> str:
    """Decode while torch refuses whatever would wait; the first time is for caches."""
    data, _, size = encode(side, x, 50.0)
    cuda = side.device.type == "cuda"
    with side.using():
        for mode in ("default", "error"):
            reader = RangeDecoder(data, device=side.device)
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode(mode)
            try:
                side.codec.entropy.code(reader, None, size)
            finally:
                if cuda:
                    torch.cuda.set_sync_debug_mode("default")
            reader.finish()
    return "nothing waits between passes" if cuda else "ran"


@contextlib.contextmanager
def on_the_host() -> Iterator[None]:
    """The host's coder for tensors on the device."""
    before = os.environ.get("POLYCODEC_CODER")
    os.environ["POLYCODEC_CODER"] = "native"
    try:
        yield
    finally:
        del os.environ["POLYCODEC_CODER"]
        if before is not None:
            os.environ["POLYCODEC_CODER"] = before


def image(side: Side, x: Tensor, rounds: int) -> dict:
    """Least milliseconds of compress and decompress of one image."""
    x, out = x.to(side.device), {}
    for place, context in (("device", side.using), ("host", on_the_host)):
        with context():
            data = side.codec.compress(x, 50.0)
            calls = {
                "compress": lambda: side.codec.compress(x, 50.0),
                "decompress": lambda d=data: side.codec.decompress(d),
            }
            for name, call in calls.items():
                out[f"{name}, coder on the {place}, ms"] = _least(side, call, rounds)
    return {"pixels": f"{x.shape[3]}x{x.shape[2]}", "bytes": len(data[0]), **out}


def _least(side: Side, call: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        if side.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 1e3 * best
