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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

# Files that can change the bytes of a codec: sources, and the kernels made of them.
CODE = (".py", ".h", ".cpp", ".cu", ".kernels")


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


class Measurable(Protocol):
    """What an evaluation asks of every subject, of pictures and of sound."""

    name: str  # identifies it in results and reports
    label: str  # how a person would call it
    kind: str  # "codec" or "anchor"
    control: str  # what a setting is: quality, ratio, target_bpp, kbps
    settings: tuple[float, ...]  # used when the caller states none

    def missing(self) -> str | None:
        """Say why it cannot run on this machine, or None if it can."""

    def versions(self) -> dict[str, Any]:
        """List what its bytes depend on: versions, options, weights."""


class Subject(Measurable, Protocol):
    """The interface of everything that can be measured on pictures."""

    def compress(self, picture: np.ndarray, setting: float) -> Coded:
        """Turn one picture into bytes."""

    def decompress(self, data: bytes) -> Decoded:
        """Turn bytes back into the picture."""


class OwnCodec:
    """A codec of ours under its name, whatever kind of signal it codes."""

    kind = "codec"
    settings: tuple[float, ...]  # a subclass has those used when none are given

    def __init__(
        self,
        name: str,
        *,
        checkpoint: str | pathlib.Path | None = None,
        device: str = "auto",
        control: str = "quality",
        settings: Sequence[float] | None = None,
    ) -> None:
        self.model, self.checkpoint = name, checkpoint
        self.name = name if checkpoint is None else f"{name}@{checkpoint}"
        self.label = f"polycodec {name}"
        if checkpoint is not None:
            self.label += f" ({pathlib.Path(checkpoint).stem})"
        self.device, self.control = device, control
        if settings is not None:
            self.settings = tuple(settings)
        self._loaded: Any = None

    def missing(self) -> str | None:
        """Our own codecs are always there; wrong names fail when they run."""
        return None

    def versions(self) -> dict[str, Any]:
        """Name the code and the weights, because either may change the bytes."""
        import torch

        import polycodec
        from polycodec.codecs import zoo

        return {
            "polycodec": polycodec.__version__,
            "code": code_digest(),
            "weights": self._codec().digest.hex(),
            "torch": torch.__version__,
            "device": str(zoo.resolve_device(self.device)),
        }

    def _codec(self) -> Any:
        """The loaded codec: weights are read once, outside of any timing."""
        if self._loaded is None:
            from polycodec.codecs import zoo

            self._loaded = zoo.load(self.model, self.device, checkpoint=self.checkpoint)
        return self._loaded


class PolycodecSubject(OwnCodec):
    """One of our codecs for images, measured through the files it writes.

    The clock runs inside encode and decode; the temporary PNG files that carry
    the picture in and out are scaffolding and cost it nothing in the results.
    """

    settings = (5, 18, 31, 44, 57, 70, 83, 96)

    def compress(self, picture: np.ndarray, setting: float) -> Coded:
        """Encode through a temporary PNG into a real ``.plc`` file."""
        from polycodec.codecs.files import api

        with tempfile.TemporaryDirectory(prefix="polycodec-eval-") as folder:
            source = pathlib.Path(folder, "in.png")
            target = pathlib.Path(folder, "out.plc")
            Image.fromarray(picture).save(source, compress_level=1)
            result = api.encode(
                source, target, codec=self._codec(), **{self.control: setting}
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
            result = api.decode(source, target, codec=self._codec())
            with Image.open(target) as image:
                picture = np.array(image.convert("RGB"))
        return Decoded(picture, result.seconds)


def code_digest() -> str:
    """Digest all code that can change a codec's bytes.

    A changed comment changes it too: a needless measurement costs minutes, a
    stale one costs trust.
    """
    total = hashlib.sha256()
    for package in ("codecs", "entropy_models", "cuda"):
        spec = importlib.util.find_spec(f"polycodec.{package}")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(pathlib.Path(folder).rglob("*")):
                if path.suffix in CODE:
                    total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]
