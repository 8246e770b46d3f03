# SPDX-License-Identifier: Apache-2.0
"""Our codecs for video, measured through the files they write: Y4M in, Y4M out."""

from __future__ import annotations

import io
import pathlib
import tempfile

import numpy as np

from polycodec.eval.subjects import Coded, Decoded, OwnCodec
from polycodec.eval.video import clip


class VideoCodec(OwnCodec):
    """One of our codecs, of video or of images; signals are clips (`clip.py`)."""

    usual, takes = (10, 30, 50, 70, 90), ("image", "video")

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Encode Y4M in memory into a real ``.plc`` file in memory."""
        target = io.BytesIO()
        result = self._encode(io.BytesIO(clip.y4m(signal)), target, setting)
        frames, height, width = clip.size_of(signal)
        bits = result.estimated_bpp * frames * height * width
        return Coded(target.getvalue(), result.seconds, bits)

    def decompress(self, data: bytes) -> Decoded:
        """Decode a ``.plc`` file into Y4M and read that."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "decoded.y4m")
            result = self._decode(io.BytesIO(data), path)
            return Decoded(clip.read(path), result.seconds)
