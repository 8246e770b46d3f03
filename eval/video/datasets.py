# SPDX-License-Identifier: Apache-2.0
"""The clips of an evaluation: files that can be decoded, and the set `uvg`.

"uvg" ──► --data folder ──► $POLYCODEC_DATA          clips in its uvg/

UVG is not downloaded: its archives are some 30 GB. Clips of it are Y4M or anything
else that holds their samples without loss; raw .yuv says no size and is not read.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from dataclasses import dataclass

import numpy as np

from polycodec.codecs.files.kinds import KINDS
from polycodec.errors import InputError
from polycodec.eval.datasets import ENVIRONMENT, Datasets, Item, Place
from polycodec.eval.video import clip

SUFFIXES = KINDS["video"].suffixes


@dataclass(frozen=True)
class VideoFile(Item):
    """One clip; its frames are read when asked for."""

    def read(self) -> np.ndarray:
        """(T, 3 H / 2, W) uint8, see `clip.py`."""
        return clip.read(self.path)

    @staticmethod
    def digest(signal: np.ndarray) -> str:
        """Return the digest of all samples."""
        shape = repr(signal.shape).encode()
        return hashlib.sha256(shape + signal.tobytes()).hexdigest()[:16]


def _uvg(data: Place | None) -> list[pathlib.Path]:
    place = data if data is not None else os.environ.get(ENVIRONMENT)
    if place is not None:
        for folder in (pathlib.Path(place, "uvg"), pathlib.Path(place)):
            if folder.is_dir() and (found := VIDEOS.files_in(folder)):
                return found
    raise InputError(
        f"no clips of UVG in {place or 'any known place'}; expected Y4M or other files "
        f"in its uvg/; name the folder with --data or {ENVIRONMENT}, or give a folder "
        "of your own in place of 'uvg'"
    )


VIDEOS = Datasets("uvg", _uvg, VideoFile, SUFFIXES, "clip")
