# SPDX-License-Identifier: Apache-2.0
"""Tokens of images: out of pictures and `.plc` files, and back into them.

The tokens of a picture are those that its file holds, put together from its tiles. A
file of tokens keeps size, depth and colour; metadata and alpha it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    write_plc,
)
from polycodec.codecs.files.ends import Ends, Given, codec_for, codec_of
from polycodec.codecs.files.image.alpha import seal_of
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.image.records import records_of
from polycodec.codecs.files.options import TokenOptions
from polycodec.codecs.files.sources import Twice
from polycodec.codecs.files.tokens.file import ImageTokens, digest_in, with_codebooks
from polycodec.codecs.signals.grid import Grid, choose_tile
from polycodec.codecs.signals.tiles import TileDecoder, TileEncoder
from polycodec.errors import InputError

LEFT = "metadata, EXIF orientation with it, and alpha are not kept in files of tokens"


def tokens_of(
    input: Twice, options: TokenOptions, codec: Given
) -> tuple[ImageTokens, list[str]]:
    """The tokens of a picture, and what a person should know of it."""
    books = with_codebooks(codec_for("image", Ends(input, "-", options, codec)))
    image = read_image(input)
    tile = choose_tile(books.tiling, image.height, image.width, None)
    geometry = ImageGeometry(image.width, image.height, image.depth, image.colour, tile)
    encoder = books.image_encoder(image.pixels, (1 << image.depth) - 1, tile)
    assert isinstance(encoder, TileEncoder)
    level = books.level_of(options.quality)
    parts = (encoder.codes(k, level) for k in range(len(encoder.grid)))
    found = _gathered(books, geometry, parts)
    beside = image.alpha is not None or records_of(image)
    return found, [*image.notes, *([LEFT] if beside else [])]


def codec_in(reader: Reader, options: TokenOptions, given: Given) -> TokenCodec:
    """The codec that made a .plc file; ModelError for one without codebooks."""
    return with_codebooks(codec_of(reader.header, options, given))


def read(
    reader: Reader, options: TokenOptions, given: Given
) -> tuple[ImageTokens, list[str]]:
    """Tokens of an opened .plc file, tile by tile, and notes."""
    header, geometry = reader.header, reader.header.geometry
    assert isinstance(geometry, ImageGeometry)
    codec = codec_in(reader, options, given)
    grid = Grid(geometry.height, geometry.width, geometry.tile)
    if (alpha := header.record("alpha")) is not None:
        grid.beside = seal_of(alpha)
    decoder = TileDecoder(codec, grid, header.quality, reader.chunk)
    decoder.samples = _samples(geometry)
    found = _gathered(codec, geometry, (decoder.codes(k) for k in range(len(grid))))
    return found, [*([LEFT] if reader.directory else []), *reader.warnings]


def write(tokens: ImageTokens, file: BinaryIO, codec: TokenCodec) -> None:
    """Entropy-code tokens into a .plc file; ``codec``: of their digest."""
    if tokens.tile and codec.tiling.reach is None:
        raise InputError(
            f"tile is {tokens.tile}, and '{codec.name}' has no tiles; expected 0; "
            "write the file of tokens again"
        )
    codes = torch.from_numpy(tokens.codes.astype(np.int64))[None]
    rates, level = codec.quantizer.rates, codec.quantizer.rate_of(codes)
    steps = len(rates) - 1
    quality = round(100 * (level - 1) / steps, 2) if steps else 100.0
    header = header_of(tokens, quality)
    grid = Grid(tokens.height, tokens.width, tokens.tile)
    peak, channels = _samples(header.geometry)

    def chunks() -> Iterator[bytes]:
        for k in range(len(grid)):
            rows, columns = grid.span(k).scaled(tokens.stride).slices
            context = grid.context(k, quality, peak, channels)
            part = codes[:, :, rows, columns].contiguous()
            yield codec.write(part, level, context=context).data[0]

    write_plc(file, header, chunks())


def header_of(tokens: ImageTokens, quality: float) -> Header:
    """The header of the .plc file that holds the tokens."""
    geometry = ImageGeometry(
        tokens.width, tokens.height, tokens.depth, tokens.colour, tokens.tile
    )
    return Header(
        model=tokens.model,
        digest=digest_in(tokens),
        kind="image",
        geometry=geometry,
        quality=quality,
    )


def _samples(geometry: object) -> tuple[int, int]:
    """The largest sample, and the channels that are coded."""
    assert isinstance(geometry, ImageGeometry)
    return (1 << geometry.depth) - 1, 1 if geometry.colour == "gray" else 3


def _gathered(
    codec: TokenCodec, geometry: ImageGeometry, parts: Iterator[Tensor]
) -> ImageTokens:
    """Tokens of the codes (1, L, h, w) of all tiles."""
    grid = Grid(geometry.height, geometry.width, geometry.tile)
    whole: np.ndarray | None = None
    for k, part in enumerate(parts):
        if whole is None:
            size = codec.grid((geometry.height, geometry.width))
            whole = np.empty((part.shape[1], *size), np.int32)
        rows, columns = grid.span(k).scaled(codec.stride).slices
        whole[:, rows, columns] = part[0].cpu().numpy()
    assert whole is not None
    return ImageTokens(
        codes=whole,
        sizes=np.array(codec.sizes, np.int32),
        model=codec.name,
        digest=codec.digest.hex(),
        width=geometry.width,
        height=geometry.height,
        stride=codec.stride,
        tile=geometry.tile,
        depth=geometry.depth,
        colour=geometry.colour,
    )
