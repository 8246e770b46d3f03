# SPDX-License-Identifier: Apache-2.0
"""What can be asked of packing images into a set, and of taking them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polycodec.codecs.files.options import EFFORT, CodingOptions, FileOptions, option

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec
    from polycodec.codecs.files.ends import Progress


@dataclass(frozen=True, kw_only=True)
class PackOptions(CodingOptions):
    """What is asked of packing; every member is coded at the same quality."""

    effort: int = option(0, EFFORT, "N", least=0)
    alpha: str = option(
        "lossless", "How transparency is coded.", one_of=("lossless", "codec")
    )
    metadata: str = option(
        "keep", "What stands beside the pixels of members.", one_of=("keep", "drop")
    )
    keep_going: bool = option(
        False, "Pack the others where an image cannot be read; else nothing is made."
    )

    if TYPE_CHECKING:
        codec: Codec | None = None
        progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class UnpackOptions(FileOptions):
    """What is asked of unpacking; ``only``: names, or patterns as a shell has them."""

    only: tuple[str, ...] = option(
        (), "These members only; * and ? match any.", "NAME ..."
    )
    format: str | None = option(None, "Such as webp; png unless told.", "SUFFIX")

    if TYPE_CHECKING:
        codec: Codec | None = None
        progress: Progress | None = None
