# SPDX-License-Identifier: Apache-2.0
"""What can be measured: a thing that turns sound into bytes and back.

    samples (T,) float32 ──compress(setting)──► bytes ──decompress──► samples

Our codecs go through real ``.plc`` files and every byte of them counts. For the
classical ones the bytes of the packets count and the file around them does not, the
reading that favours them; both figures are kept.
"""

from __future__ import annotations

import io
import pathlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from polycodec.eval.speech import RATE, sound
from polycodec.eval.subjects import code_digest


@dataclass(frozen=True)
class Coded:
    """Real bytes of one sound, how many of them count, the seconds they took."""

    data: bytes
    counted: int
    seconds: float
    estimated_bits: float | None = None


@dataclass(frozen=True)
class Decoded:
    """Samples (T,) float32 at 16 kHz and the seconds their decoding took."""

    samples: np.ndarray
    seconds: float


class SpeechSubject(Protocol):
    """The interface of everything that a speech evaluation can measure."""

    name: str  # identifies it in results and reports
    label: str  # how a person would call it
    kind: str  # "codec" or "anchor"
    control: str  # what a setting is: quality, target_kbps, kbps
    settings: tuple[float, ...]
    counts: str  # which bytes make the rate
    delayed: bool  # whether its delay is searched and taken out

    def missing(self) -> str | None:
        """Say why it cannot run on this machine, or None if it can."""

    def versions(self) -> dict[str, Any]:
        """List what its bytes depend on: versions, options, weights."""

    def compress(self, samples: np.ndarray, setting: float) -> Coded:
        """Turn (T,) float32 at 16 kHz into bytes."""

    def decompress(self, data: bytes) -> Decoded:
        """Turn bytes back into samples."""


class PolycodecSpeech:
    """One of our codecs, measured through the files it writes.

    Sound goes in and comes out as 16-bit WAV, as it does for anybody who uses them.
    """

    kind, counts, delayed = "codec", "the whole .plc file", False

    def __init__(
        self,
        name: str,
        *,
        checkpoint: str | pathlib.Path | None = None,
        device: str = "auto",
        control: str = "quality",
        settings: tuple[float, ...] = (0, 25, 50, 75, 100),
    ) -> None:
        self.model, self.checkpoint = name, checkpoint
        self.name = name if checkpoint is None else f"{name}@{checkpoint}"
        self.label = f"polycodec {name}"
        if checkpoint is not None:
            self.label += f" ({pathlib.Path(checkpoint).stem})"
        self.device, self.control = device, control
        self.settings = tuple(settings)
        self._loaded: Any = None

    def missing(self) -> str | None:
        """Our own codecs are always there; wrong names fail when they run."""
        return None

    def versions(self) -> dict[str, Any]:
        """Name the code and the weights, because either may change the bytes."""
        import torch

        import polycodec

        return {
            "polycodec": polycodec.__version__,
            "code": code_digest(),
            "weights": self._codec().digest.hex(),
            "torch": torch.__version__,
            "device": self.device,
        }

    def compress(self, samples: np.ndarray, setting: float) -> Coded:
        """Encode a WAV in memory into a real ``.plc`` file in memory."""
        from polycodec.codecs.files import api

        target = io.BytesIO()
        result = api.encode(
            io.BytesIO(sound.wav(samples)),
            target,
            codec=self._codec(),
            **{self.control: setting},
        )
        data, estimate = target.getvalue(), result.estimated_kbps
        bits = None if estimate is None else 1000 * estimate * len(samples) / RATE
        return Coded(data, len(data), result.seconds, bits)

    def decompress(self, data: bytes) -> Decoded:
        """Decode a ``.plc`` file into a WAV and read that."""
        from polycodec.codecs.files import api

        target = io.BytesIO()
        result = api.decode(io.BytesIO(data), target, codec=self._codec())
        samples = sound.read(io.BytesIO(target.getvalue()), "the decoded WAV")
        return Decoded(samples, result.seconds)

    def _codec(self) -> Any:
        """The loaded codec: weights are read once, outside of any timing."""
        if self._loaded is None:
            from polycodec.codecs import zoo

            self._loaded = zoo.load(self.model, self.device, checkpoint=self.checkpoint)
        return self._loaded
