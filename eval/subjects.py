# SPDX-License-Identifier: Apache-2.0
"""What can be measured: a thing that turns a picture into bytes and back.

    picture (H, W, 3) uint8 ──compress(setting)──► bytes ──decompress──► picture

Our own codecs and the classical anchors meet the measuring loop through this
one door, so that no rate is ever an estimate and no picture skips the decoder.
Our codecs go through real ``.plc`` files, header and all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from polycodec.errors import InputError


@dataclass(frozen=True)
class Coded:
    """The bytes of one picture, the seconds they took, and the model's guess."""

    data: bytes
    seconds: float
    estimated_bpp: float | None = None


@dataclass(frozen=True)
class Decoded:
    """A picture (H, W, 3) uint8 and the seconds its decoding took."""

    picture: np.ndarray
    seconds: float


class Subject(Protocol):
    """The interface of everything that ``evaluate`` can measure."""

    name: str  # identifies it in results and reports
    label: str  # how a person would call it
    kind: str  # "codec" or "anchor"
    control: str  # what a setting is: quality, rate, target_bpp
    settings: tuple[float, ...]  # used when the caller states none

    def missing(self) -> str | None:
        """Say why it cannot run on this machine, or None if it can."""

    def versions(self) -> dict[str, Any]:
        """List what its bytes depend on: versions, options, weights."""

    def compress(self, picture: np.ndarray, setting: float) -> Coded:
        """Turn one picture into bytes."""

    def decompress(self, data: bytes) -> Decoded:
        """Turn bytes back into the picture."""


class PolycodecSubject:
    """One of our codecs, measured through the files it writes.

    The clock runs inside encode and decode; the temporary PNG files that carry
    the picture in and out are scaffolding and cost it nothing in the results.
    """

    kind = "codec"

    def __init__(
        self,
        name: str,
        *,
        checkpoint: str | pathlib.Path | None = None,
        device: str = "auto",
        control: str = "quality",
        settings: tuple[float, ...] = (5, 18, 31, 44, 57, 70, 83, 96),
    ) -> None:
        self.model = name
        self.checkpoint = None if checkpoint is None else pathlib.Path(checkpoint)
        self.name = name if checkpoint is None else f"{name}@{checkpoint}"
        self.label = f"polycodec {self.name}"
        self.device = device
        self.control = control
        self.settings = tuple(settings)

    def missing(self) -> str | None:
        """Our own codecs are always there; wrong names fail when they run."""
        return None

    def versions(self) -> dict[str, Any]:
        """Digest the code and the weights, because either may change the bytes."""
        import torch

        import polycodec

        about = {
            "polycodec": polycodec.__version__,
            "code_and_weights": code_digest(),
            "torch": torch.__version__,
            "device": self.device,
        }
        if self.checkpoint is not None:
            about["checkpoint"] = _digest(_files_of(self.checkpoint))
        return about

    def compress(self, picture: np.ndarray, setting: float) -> Coded:
        """Encode through a temporary PNG into a real ``.plc`` file."""
        from polycodec.codecs.files import api

        with tempfile.TemporaryDirectory(prefix="polycodec-eval-") as folder:
            source = pathlib.Path(folder, "in.png")
            target = pathlib.Path(folder, "out.plc")
            Image.fromarray(picture).save(source, compress_level=1)
            result = api.encode(
                source,
                target,
                model=self.model,
                device=self.device,
                **{self.control: setting},
                **self._weights(),
            )
            data = target.read_bytes()
        return Coded(data, result.seconds, result.estimated_bpp)

    def decompress(self, data: bytes) -> Decoded:
        """Decode a ``.plc`` file into a PNG and read that."""
        from polycodec.codecs.files import api

        with tempfile.TemporaryDirectory(prefix="polycodec-eval-") as folder:
            source = pathlib.Path(folder, "in.plc")
            target = pathlib.Path(folder, "out.png")
            source.write_bytes(data)
            result = api.decode(source, target, device=self.device, **self._weights())
            with Image.open(target) as image:
                picture = np.array(image.convert("RGB"))
        return Decoded(picture, result.seconds)

    def _weights(self) -> dict[str, Any]:
        return {} if self.checkpoint is None else {"checkpoint": self.checkpoint}


def code_digest() -> str:
    """Digest all code and weights that can change a codec's bytes.

    A changed comment changes it too: a needless measurement costs minutes, a
    stale one costs trust.
    """
    files: list[pathlib.Path] = []
    for package in ("codecs", "entropy_models", "cuda"):
        spec = importlib.util.find_spec(f"polycodec.{package}")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            files += _files_of(pathlib.Path(folder))
    return _digest(files)


def _files_of(place: pathlib.Path) -> list[pathlib.Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(
            f"no such checkpoint: {place}; expected a file or a run's folder; "
            "check the path"
        )
    kinds = {".py", ".c", ".h", ".cpp", ".safetensors", ".json", ".yaml", ".pt"}
    return sorted(p for p in place.rglob("*") if p.suffix in kinds)


def _digest(files: list[pathlib.Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]
