# SPDX-License-Identifier: Apache-2.0
"""Our codecs for speech, measured through the files they write.

    samples (T,) float32 ──► 16-bit WAV ──► .plc ──► WAV ──► samples

Every byte of the ``.plc`` file counts. Of the classical codecs the bytes of the packets
count and the file around them does not, the reading that favours them; both figures are
kept.
"""

from __future__ import annotations

import io

import numpy as np

from polycodec.codecs.measures.speech import RATE
from polycodec.eval.speech import wave
from polycodec.eval.subjects import Coded, Decoded, OwnCodec


class SpeechCodec(OwnCodec):
    """One of our codecs for speech; signals are (T,) float32 at 16 kHz."""

    usual, takes = (0, 25, 50, 75, 100), ("speech",)

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Encode a WAV in memory into a real ``.plc`` file in memory."""
        target = io.BytesIO()
        result = self._encode(io.BytesIO(wave.stored(signal, "WAV")), target, setting)
        estimate = result.estimated_kbps
        bits = None if estimate is None else 1000 * estimate * len(signal) / RATE
        return Coded(target.getvalue(), result.seconds, bits)

    def decompress(self, data: bytes) -> Decoded:
        """Decode a ``.plc`` file into a WAV and read that."""
        target = io.BytesIO()
        result = self._decode(io.BytesIO(data), target)
        samples = wave.read(io.BytesIO(target.getvalue()))
        return Decoded(samples, result.seconds)
