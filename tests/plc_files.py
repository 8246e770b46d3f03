# SPDX-License-Identifier: Apache-2.0
"""Small `.plc` files without a codec, for the tests of the container."""

from __future__ import annotations

import io
from dataclasses import fields

from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    write_plc,
)


def pack(header: Header, chunks: list[bytes]) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    size = write_plc(out, header, iter(chunks))
    assert size == len(out.getvalue())
    return out.getvalue()


def image_header(**changes: object) -> Header:
    """The header of an image of 3 x 2 pixels, but for ``changes`` of its geometry."""
    geometry = ImageGeometry(**{"width": 3, "height": 2, **changes})  # type: ignore[arg-type]
    return Header("image/default", b"\xde\xad\xbe\xef", "image", geometry, 60.25)


def said(reader: Reader) -> Header:
    """What a file says before its chunks, metadata and all."""
    about = {f.name: getattr(reader.header, f.name) for f in fields(Header)}
    return Header(**{**about, "records": tuple(reader.intact())})
