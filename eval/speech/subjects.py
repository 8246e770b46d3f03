# SPDX-License-Identifier: Apache-2.0
"""What can be measured: a thing that turns sound into bytes and back.

    samples (T,) float32 ──compress(setting)──► bytes ──decompress──► samples

Our codecs go through real ``.plc`` files and every byte of them counts. For the
classical ones the bytes of the packets count and the file around them does not, the
reading that favours them; both figures are kept.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from polycodec.codecs.measures.speech import RATE
from polycodec.eval.image.subjects import Measurable, OwnCodec
from polycodec.eval.speech import wave as sound


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


class SpeechSubject(Measurable, Protocol):
    """The interface of everything that can be measured on speech."""

    counts: str  # which bytes make the rate
    delayed: bool  # whether its delay is searched and taken out

    def compress(self, samples: np.ndarray, setting: float) -> Coded:
        """Turn (T,) float32 at 16 kHz into bytes."""

    def decompress(self, data: bytes) -> Decoded:
        """Turn bytes back into samples."""


class PolycodecSpeech(OwnCodec):
    """One of our codecs for speech, measured through the files it writes.

    Sound goes in and comes out as 16-bit WAV, as it does for anybody who uses them.
    """

    counts, delayed = "the whole .plc file", False
    settings = (0, 25, 50, 75, 100)

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
