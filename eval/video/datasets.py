# SPDX-License-Identifier: Apache-2.0
"""The clips of an evaluation: files that can be decoded, and the set `uvg`.

"uvg" ──► --data folder ──► $POLYCODEC_DATA          clips in its uvg/

UVG is seven clips of 1920x1080 at ultravideo.fi, Mercat et al. 2020 ("UVG dataset:
50/120fps 4K sequences for video codec analysis and development"). It is not downloaded:
its archives are .7z of some 30 GB, and digests of them are published nowhere; names,
sizes and, where a file says it, frames are checked instead. Clips are Y4M or anything
else that holds their samples without loss; raw .yuv says no size and is not read.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from dataclasses import dataclass

import numpy as np

from polycodec.codecs.files.kinds import KINDS
from polycodec.codecs.files.video.read import open_video
from polycodec.errors import InputError
from polycodec.eval.datasets import ENVIRONMENT, Datasets, Item, Place
from polycodec.eval.video import clip

SUFFIXES = KINDS["video"].suffixes
UVG_SIZE = 1920, 1080
UVG = {  # frames, by how the names of files begin
    **dict.fromkeys(("beauty", "bosphorus", "honeybee", "jockey"), 600),
    **{"ready": 600, "shakendry": 300, "yachtride": 600},
}


@dataclass(frozen=True)
class VideoFile(Item):
    """One clip; its frames are read when asked for."""

    def read(self) -> np.ndarray:
        """(T, 3 H / 2, W) uint8, see `clip.py`."""
        return clip.read(self.path)

    def check(self) -> None:
        """Open it; frames are many, and read when they are measured."""
        with open_video(str(self.path)):
            pass

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
                return checked(found)
    raise InputError(
        f"no clips of UVG in {place or 'any known place'}; expected Y4M or other files "
        f"in its uvg/; name the folder with --data or {ENVIRONMENT}, or give a folder "
        "of your own in place of 'uvg'"
    )


def checked(found: list[pathlib.Path]) -> list[pathlib.Path]:
    """The seven clips of UVG among files; InputError without one, or of another size.

    What else lies there is left alone.
    """
    clips = []
    for name, frames in UVG.items():
        own = [path for path in found if path.name.lower().startswith(name)]
        if len(own) != 1:
            raise InputError(
                f"{found[0].parent} has {len(own)} clips named '{name}...'; expected "
                f"one for each of {', '.join(UVG)}; give a folder of your own in "
                "place of 'uvg'"
            )
        with open_video(str(own[0])) as video:
            info = video.info
        size, told = (info.width, info.height), info.frames or frames
        if (*size, told) != (*UVG_SIZE, frames):
            raise InputError(
                f"{own[0]} is {size[0]}x{size[1]} with {told} frames; UVG's has "
                f"{UVG_SIZE[0]}x{UVG_SIZE[1]} with {frames}; get it again, or give a "
                "folder of your own in place of 'uvg'"
            )
        clips.append(own[0])
    return sorted(clips)


VIDEOS = Datasets("uvg", _uvg, VideoFile, SUFFIXES, "clip")
