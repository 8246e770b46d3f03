# SPDX-License-Identifier: Apache-2.0
"""One measurement of an image: sizes, rates, PSNR and MS-SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from polycodec.codecs.measures import image as measures
from polycodec.eval.measure import Row, Trip


@dataclass(frozen=True, kw_only=True)
class ImageRow(Row):
    """What is known about one image, one subject and one setting."""

    image: str
    width: int
    height: int
    bpp: float  # bits of the whole file per pixel
    estimated_bpp: float | None  # the model's own estimate, where it has one
    psnr: float  # dB
    ms_ssim: float | None
    ms_ssim_db: float | None
    note: str | None  # why a value is missing

    @classmethod
    def of(
        cls, trip: Trip, file: str, key: str, names: Sequence[str], known: Any
    ) -> ImageRow:
        """Compare (H, W, 3) uint8 with what was decoded."""
        signal, estimate = trip.signal, trip.coded.estimated_bits
        height, width = signal.shape[:2]
        psnr = measures.psnr(signal, trip.decoded.signal)
        ms_ssim, note = measures.ms_ssim(signal, trip.decoded.signal)
        return cls(
            key=key,
            image=file,
            width=width,
            height=height,
            bpp=8 * trip.coded.size / (width * height),
            estimated_bpp=None if estimate is None else estimate / (width * height),
            psnr=psnr,
            ms_ssim=ms_ssim,
            ms_ssim_db=measures.decibel(ms_ssim),
            note=note,
            **trip.figures(),
        )

    def named(self, file: str) -> ImageRow:
        """Return the same row of an image by another name."""
        return replace(self, image=file)
