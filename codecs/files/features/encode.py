# SPDX-License-Identifier: Apache-2.0
"""Pictures in, files of features out: what runs on the weak device.

    photo.jpg ─ read ─ upright ─ brought to size ─ g_a ─ whole numbers ─ photo.plc

What a picture has beside its pixels is not kept, nor is the picture: no decoder makes
it of the file. The way on is `classify.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import FeatureGeometry, Header, write_plc
from polycodec.codecs.files.ends import (
    Ends,
    Given,
    Target,
    check_kind,
    codec_for,
    encoded_as,
    in_memory,
    no_codec,
    target_of,
)
from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.orientation import upright
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.keywords import FeatureKeywords, documented
from polycodec.codecs.files.options import FeatureOptions, options_of
from polycodec.codecs.files.rate import quality_asked
from polycodec.codecs.files.results import FeaturesEncoded
from polycodec.codecs.files.sources import Source, seekable
from polycodec.codecs.signals.tiles import to_tensor
from polycodec.errors import CodecError, InputError

KIND = "features"
T = TypeVar("T")


@documented(FeatureKeywords)
def features(
    input: Source,
    output: Target | None = None,
    *,
    codec: Given = None,
    **options: Any,
) -> FeaturesEncoded:
    """Code the features of a picture, which `classify` reads, to a ``.plc`` file.

    ``input``: a path, an open file, or the bytes of one; of bytes without ``output``
    the file is the result's ``data``. Of many pictures: `features_of`.

    Raises the errors of `polycodec.errors`; on an error nothing is written.
    """
    output, kept = in_memory(input, output)
    source, chosen = seekable(input), options_of(FeatureOptions, options)
    target = target_of(source, output, ".plc", chosen.force)
    encoded_as(target)
    ends = Ends(source, target, chosen, codec)
    image, quality = read_image(source), quality_asked(chosen)
    used = codec_for(KIND, ends)
    [(data, bits)] = _files(used, [image], quality)
    with ends.writing() as file:
        file.write(data)
    return FeaturesEncoded(
        **ends.about(used.name),
        bytes=len(data),
        estimated_bytes=bits / 8,
        quality=quality,
        width=image.width,
        height=image.height,
        data=kept.getvalue(),
    )


def features_of(
    pictures: Iterable[Source], codec: Codec, quality: float = 50.0
) -> list[bytes]:
    """Files of the features of many pictures, computed together.

    They are read one at a time; what is kept of each is what the network sees. Raises
    the errors of `polycodec.errors`, ModelError for a codec of anything else.
    """
    sources = check_many(pictures, codec)
    asked = quality_asked(FeatureOptions(quality=quality))

    def read(k: int) -> ImageData:
        with told_which(k, sources):
            return read_image(sources[k])

    images = map(read, range(len(sources)))
    return [data for data, _ in _files(codec, images, asked)]


def check_many(files: Iterable[T], codec: object) -> list[T]:
    """All files; refuses one in place of many, and what is no codec of features."""
    if isinstance(files, (str, bytes, os.PathLike)):
        raise InputError(f"{str(files)[:60]!r} is one file; expected a list of them")
    if not isinstance(files, Iterable):
        raise InputError(f"{files!r:.60} are no files; expected a list of them")
    if not isinstance(codec, Codec):
        raise no_codec(codec)
    check_kind(codec, KIND)
    return list(files)


@contextlib.contextmanager
def told_which(k: int, files: Sequence[object]) -> Iterator[None]:
    """Put the place of one of many files into the message of an error."""
    try:
        yield
    except CodecError as error:
        raise type(error)(f"number {k + 1} of {len(files)}: {error}") from error


def seal_of(geometry: FeatureGeometry, quality: float) -> bytes:
    """What a stream of features is sealed with."""
    return struct.pack(  # BITSTREAM
        "<2IH", geometry.width, geometry.height, round(100 * quality)
    )


def _files(
    codec: Codec, images: Iterable[ImageData], quality: float
) -> list[tuple[bytes, float]]:
    """The file of each image, and its estimated bits."""
    shapes: list[FeatureGeometry] = []
    seen: list[Tensor] = []
    files: list[tuple[bytes, float]] = []
    level = codec.level_of(quality)
    with torch.inference_mode():
        for one in images:
            shapes.append(FeatureGeometry(one.width, one.height))
            seen.append(codec.signal.checked(_upright(one)))
        if not seen:
            return files
        seals = [seal_of(geometry, quality) for geometry in shapes]
        codes = codec._encode(torch.cat(seen), level, None)  # they are checked
        coded = codec.write(codes, level, context=seals)
    for geometry, chunk, bits in zip(
        shapes, coded.data, coded.estimated_bits, strict=True
    ):
        header = Header(codec.name, codec.digest, KIND, geometry, quality)
        write_plc(out := io.BytesIO(), header, [chunk])
        files.append((out.getvalue(), bits))
    return files


def _upright(image: ImageData) -> Tensor:
    """The picture (1, 3, H, W) in [0, 1] as it is meant to be seen."""
    pixels = np.ascontiguousarray(upright(image.pixels, image.exif))
    return to_tensor(pixels, (1 << image.depth) - 1, torch.device("cpu"))
