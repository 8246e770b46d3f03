# SPDX-License-Identifier: Apache-2.0
"""Quantizers of weights on unit Gaussian numbers: error, gap to the bound, speed.

    python docs/checks/trellis.py [PIECES]

A row for each quarter bit of the trellis, then range-coded lattices at many steps.
Speeds are of processor time, one thread.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np

from polycodec.codecs.quantizers.weights.trellis import QUARTERS
from polycodec.registry import build


def row(name: str, setting: int, w: np.ndarray) -> str:
    """One line: bits, error, its distance from 2^-2R in dB, Mweights a second."""
    quantizer = build(f"weights/{name}")
    start = time.process_time()
    data = quantizer.encode(w, setting)
    middle = time.process_time()
    back = quantizer.decode(data, w.shape)
    end = time.process_time()
    bits = 8 * len(data) / w.size
    error = float(np.square(w - back).mean() / np.square(w).mean())
    gap = 10 * math.log10(error / 2 ** (-2 * bits))
    speed = [w.size / 1e6 / max(s, 1e-6) for s in (middle - start, end - middle)]
    return (
        f"{name:8} {setting:4} {bits:6.3f} bits  {error:.5f}  +{gap:.2f} dB"
        f"  encode {speed[0]:.3f}  decode {speed[1]:.1f} Mweights/s"
    )


def main() -> None:
    """Print the table."""
    pieces = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    w = np.random.default_rng(7).standard_normal((pieces, 256))
    for quarters in QUARTERS:
        print(row("trellis", quarters, w), flush=True)
    for name in ("scalar", "lattice"):
        for setting in range(4, -17, -4):
            print(row(name, setting, w), flush=True)


if __name__ == "__main__":
    main()
