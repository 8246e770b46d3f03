# SPDX-License-Identifier: Apache-2.0
"""What can be measured: a thing that turns a signal into bytes and back.

    signal ──compress(setting)──► bytes ──decompress──► signal

Our own codecs and the classical anchors meet the measuring loop through this one door,
so that no rate is ever an estimate and no signal skips the decoder. Our codecs go
through real ``.plc`` files, header and all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.errors import UsageError

EFFORT = " --effort "  # in the name of a codec, before its steps
# Files that can change the bytes of a codec: sources, and the kernels made of them.
CODE = (".py", ".h", ".cpp", ".cu", ".kernels")


@dataclass(frozen=True)
class Coded:
    """The bytes of one signal, the seconds they took, and the model's guess."""

    data: bytes
    seconds: float
    estimated_bits: float | None = None
    counted: int | None = None  # bytes that make the rate; None: all of them

    @property
    def size(self) -> int:
        """Bytes that make the rate."""
        return len(self.data) if self.counted is None else self.counted


@dataclass(frozen=True)
class Decoded:
    """A signal as its kind has it, and the seconds its decoding took."""

    signal: np.ndarray
    seconds: float


class Subject(ABC):
    """Everything that can be measured."""

    name: str  # identifies it in results and reports
    label: str  # how a person would call it
    kind: str  # "codec" or "anchor"
    control: str  # what a setting is: quality, ratio, target_bpp, kbps
    settings: tuple[float, ...]  # used when the caller states none
    counts: str = "the whole file"  # which bytes make the rate
    delayed: bool = False  # whether its delay is searched and taken out

    def missing(self) -> str | None:
        """Say why it cannot run on this machine, or None if it can."""
        return None

    @abstractmethod
    def versions(self) -> dict[str, Any]:
        """Return what its bytes depend on: versions, options, weights."""

    @abstractmethod
    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Turn one signal into bytes."""

    @abstractmethod
    def decompress(self, data: bytes) -> Decoded:
        """Turn bytes back into the signal."""


class OwnCodec(Subject):
    """A codec of ours under its name, measured through the files it writes.

    ``effort``: steps of search at encoding, part of the name. Wrong names fail when
    they run. A kind's subclass knows what goes into its files.
    """

    kind = "codec"
    usual: tuple[float, ...]  # settings of a codec with many rates
    takes: tuple[str, ...]  # kinds of codecs that code such signals

    def __init__(
        self,
        name: str,
        *,
        checkpoint: str | pathlib.Path | None = None,
        device: str = "auto",
        control: str = "quality",
        settings: Sequence[float] | None = None,
        effort: int = 0,
    ) -> None:
        self.model, self.checkpoint, self.effort = name, checkpoint, effort
        self.name = name if checkpoint is None else f"{name}@{checkpoint}"
        self.label = f"polycodec {name}"
        if checkpoint is not None:
            self.label += f" ({pathlib.Path(checkpoint).name})"
        if effort:
            self.name += f"{EFFORT}{effort}"
            self.label += f"{EFFORT}{effort}"
        self.device, self.control = device, control
        self._settings = None if settings is None else tuple(settings)
        self._loaded: Any = None

    @property
    def settings(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those given, or the kind's; of a codec of few rates one for each."""
        if self._settings is not None:
            return self._settings
        codec = self._codec()
        if codec.levels == 1:
            return (50.0,)
        each = {codec.level_of(quality): quality for quality in reversed(self.usual)}
        return tuple(sorted(each.values()))

    def _encode(self, source: Any, target: Any, setting: float) -> Any:
        """Write a real ``.plc`` file; returns what the package says of it."""
        from polycodec.codecs.files import api

        wanted: dict[str, Any] = {self.control: setting}
        if self.effort:
            wanted["effort"] = self.effort
        return api.encode(source, target, codec=self._codec(), **wanted)

    def _decode(self, source: Any, target: Any) -> Any:
        """Read a ``.plc`` file; returns what the package says of it."""
        from polycodec.codecs.files import api

        return api.decode(source, target, codec=self._codec())

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

            codec = zoo.load(self.model, self.device, checkpoint=self.checkpoint)
            if codec.kind not in self.takes:
                raise UsageError(
                    f"{self.name} is a codec of {codec.kind}; expected one of "
                    f"{' or '.join(self.takes)}, as the data set is; name another"
                )
            self._loaded = codec
        return self._loaded


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
