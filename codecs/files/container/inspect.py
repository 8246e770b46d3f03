# SPDX-License-Identifier: Apache-2.0
"""Say what is in a ``.plc`` file and whether it is whole; no torch, no network.

info("photo.plc")     header, metadata, chunks, rates; reads the header only
verify("photo.plc")   reads everything, raises the named error of what is wrong

Both take a path or an open binary file, a pipe too.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.file import Reader, open_plc
from polycodec.codecs.files.container.members import Index
from polycodec.codecs.files.container.names import few
from polycodec.codecs.files.sources import Source, name_of
from polycodec.errors import BitstreamError


def info(source: Source) -> dict[str, Any]:
    """Return what the file's header says, as plain values fit for JSON.

    ``bpp`` (bits a pixel, images and video) or ``kbps`` (speech, and video too)
    count the whole file, metadata and all.
    """
    with open_plc(source) as reader:
        header = reader.header
        return {
            "input": name_of(source),
            "version": reader.version,
            "kind": header.kind,
            "model": header.model,
            "digest": header.digest.hex(),
            "geometry": asdict(header.geometry),
            "quality": header.quality,
            "bytes": reader.file_size,
            "header_bytes": reader.header_size,
            "records": [
                {
                    "type": entry["type"],
                    "bytes": entry["inflated"] or entry["size"],
                    "stored_bytes": entry["size"],
                }
                for entry in reader.directory
            ],
            "chunks": reader.n_chunks,
            "chunk_bytes": list(reader.sizes),
            **_rates(reader),
            **_members(reader),
        }


def verify(source: Source) -> dict[str, Any]:
    """Check every record and chunk; return counts, or raise what is wrong.

    Raises InputError (cannot be read), TruncatedError, VersionError,
    ChecksumError (naming the chunk, record or members) or BitstreamError.
    """
    with open_plc(source) as reader:
        for k in range(len(reader.directory)):
            reader.record(k)
        if isinstance(reader.header.geometry, layout.SetGeometry):
            _verify_members(Index(reader))
        else:
            for k in range(reader.n_chunks):
                reader.chunk(k)
        return {
            "input": name_of(source),
            "ok": True,
            "bytes": reader.file_size,
            "records": len(reader.directory),
            "chunks": reader.n_chunks,
        }


def _verify_members(index: Index) -> None:
    """Read every member; the error names those that are damaged."""
    wrong: dict[str, BitstreamError] = {}
    for name in index.names:
        try:
            for _ in index.open(name).intact():
                pass
        except BitstreamError as error:
            wrong[name] = error
    if wrong:
        first, *others = wrong.items()
        listed = few([name for name, _ in others])
        more = f"; and {len(others)} more: {listed}" if others else ""
        raise type(first[1])(f"{first[1]}{more}")


def _members(reader: Reader) -> dict[str, Any]:
    """The members of a set: name, size, and bits."""
    if not isinstance(reader.header.geometry, layout.SetGeometry):
        return {}
    index = Index(reader)
    members = []
    for name, entry, size in zip(index.names, index.entries, reader.sizes, strict=True):
        area = entry.geometry.width * entry.geometry.height
        about = {**asdict(entry.geometry), "alpha": entry.alpha, "bytes": size}
        members.append({"name": name, **about, "bpp": 8 * size / area})
    pixels = sum(m["width"] * m["height"] for m in members)
    return {"members": members, "bpp": 8 * reader.file_size / pixels}


def _rates(reader: Reader) -> dict[str, float]:
    geometry, bits = reader.header.geometry, 8 * reader.file_size
    if isinstance(geometry, layout.SetGeometry):
        return {}
    if isinstance(geometry, (layout.ImageGeometry, layout.FeatureGeometry)):
        return {"bpp": bits / (geometry.width * geometry.height)}
    if isinstance(geometry, layout.SpeechGeometry):
        return {"kbps": bits / 1000 / (geometry.samples / geometry.rate)}
    seconds = geometry.frames * geometry.rate_den / geometry.rate_num
    return {
        "bpp": bits / (geometry.width * geometry.height * geometry.frames),
        "kbps": bits / 1000 / seconds,
    }
