# SPDX-License-Identifier: Apache-2.0
"""What a file says of its signal: its sizes, and so how many chunks it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageGeometry:
    """One image: pixels as stored (EXIF orientation is not applied).

    ``tile``: side of the square tiles in pixels, row by row from the top left;
    0 when the image is one chunk. ``depth``: bits of a sample.
    """

    width: int
    height: int
    depth: int = 8
    colour: str = "rgb"
    tile: int = 0

    @property
    def n_chunks(self) -> int:
        """Number of tiles."""
        if not self.tile:
            return 1
        return -(-self.width // self.tile) * -(-self.height // self.tile)


@dataclass(frozen=True)
class VideoGeometry:
    """A sequence of ``frames``; a chunk holds ``gop`` of them, the last the rest.

    ``rate_num / rate_den`` frames a second, ``aspect_num / aspect_den`` the
    pixel's width over its height; ``primaries, transfer, matrix`` are code
    points of ITU-T H.273, ``full_range`` tells pc from tv levels. ``rotation``:
    degrees to turn frames counter-clockwise for showing, after they are ``mirrored``
    left to right; pixels are as stored. ``siting``: where chroma samples lie.
    ``sound``: chunks behind those of the frames, parts of a file of sound.
    """

    width: int
    height: int
    frames: int
    gop: int
    rate_num: int
    rate_den: int = 1
    depth: int = 8
    colour: str = "yuv420"
    full_range: bool = False
    primaries: int = 2  # 2: unspecified, here and below
    transfer: int = 2
    matrix: int = 2
    aspect_num: int = 1
    aspect_den: int = 1
    rotation: int = 0
    mirrored: bool = False
    siting: str = "unknown"
    sound: int = 0

    @property
    def groups(self) -> int:
        """Number of groups of frames."""
        return -(-self.frames // self.gop)

    @property
    def n_chunks(self) -> int:
        """Groups of frames, and chunks of sound."""
        return self.groups + self.sound


@dataclass(frozen=True)
class SpeechGeometry:
    """Speech of ``rate`` Hz and ``samples`` a channel, ``span`` of them in a chunk.

    ``rate``, ``samples``, ``sample`` (the samples' form) and ``source_channels`` are
    those of the source, so that decoding writes the same. What is coded are
    ``channels`` at ``coded_rate`` Hz, and ``span`` counts coded samples. The last
    two fields may be 0: as ``rate`` and ``channels``.
    """

    rate: int
    samples: int
    span: int
    channels: int = 1
    sample: str = "int16"
    coded_rate: int = 0
    source_channels: int = 0

    @property
    def codec_rate(self) -> int:
        """Samples a second as coded."""
        return self.coded_rate or self.rate

    @property
    def coded_samples(self) -> int:
        """Samples of each channel as coded: the same time, rounded up."""
        return -(-self.samples * self.codec_rate // self.rate)

    @property
    def n_chunks(self) -> int:
        """Number of spans."""
        return -(-self.coded_samples // self.span)


@dataclass(frozen=True)
class SetGeometry:
    """``members`` signals of the kind ``holds``, a chunk each (`members.py`)."""

    members: int
    holds: str = "image"

    @property
    def n_chunks(self) -> int:
        """Number of members."""
        return self.members


@dataclass(frozen=True)
class FeatureGeometry:
    """Features of one picture of ``width`` x ``height`` pixels, as it was read.

    What is coded has the size that the model brings pictures to.
    """

    width: int
    height: int

    @property
    def n_chunks(self) -> int:
        """One."""
        return 1


Geometry = (
    ImageGeometry | VideoGeometry | SpeechGeometry | SetGeometry | FeatureGeometry
)
