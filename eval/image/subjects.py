# SPDX-License-Identifier: Apache-2.0
"""Our codecs for images, measured through the files they write.

    image (H, W, 3) uint8 ──► PNG ──► .plc ──► PNG ──► image

The clock runs inside encode and decode; the temporary PNG files that carry the image in
and out are scaffolding and cost it nothing in the results.
"""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
from PIL import Image

from polycodec.eval.subjects import Coded, Decoded, OwnCodec


class ImageCodec(OwnCodec):
    """One of our codecs for images; signals are (H, W, 3) uint8."""

    usual, takes = (5, 18, 31, 44, 57, 70, 83, 96), ("image",)

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Encode through a temporary PNG into a real ``.plc`` file."""
        with tempfile.TemporaryDirectory(prefix="polycodec-eval-") as folder:
            source = pathlib.Path(folder, "in.png")
            target = pathlib.Path(folder, "out.plc")
            Image.fromarray(signal).save(source, compress_level=1)
            result = self._encode(source, target, setting)
            data = target.read_bytes()
        bits = result.estimated_bpp * signal.shape[0] * signal.shape[1]
        return Coded(data, result.seconds, bits)

    def decompress(self, data: bytes) -> Decoded:
        """Decode a ``.plc`` file into a PNG and read that."""
        with tempfile.TemporaryDirectory(prefix="polycodec-eval-") as folder:
            source = pathlib.Path(folder, "in.plc")
            target = pathlib.Path(folder, "out.png")
            source.write_bytes(data)
            result = self._decode(source, target)
            with Image.open(target) as image:
                pixels = np.array(image.convert("RGB"))
        return Decoded(pixels, result.seconds)
