# SPDX-License-Identifier: Apache-2.0
"""Many images into one file.

    icons/ ─ read ─┬─ as many as a batch holds ─ codec ─┬─ set ─ icons.plc
           a.png   │                                    │  names, sizes, streams
           b/c.png ┘                                    ┘

A member has the streams of a file of its own (`image/encode.py`); model, digest,
quality and header stand once, images of one size are coded together, and no more of
them are in memory than a batch holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polycodec import places
from polycodec.codecs.files.container import names
from polycodec.codecs.files.container.geometry import ImageGeometry, SetGeometry
from polycodec.codecs.files.container.layout import Header
from polycodec.codecs.files.container.members import Entry, index_records, member_chunk
from polycodec.codecs.files.container.write import Writer
from polycodec.codecs.files.ends import Ends, Progress, Target, codec_for, target_of
from polycodec.codecs.files.folders import below, expand, root_of
from polycodec.codecs.files.image.encode import Job
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.image.write import losses_in_png
from polycodec.codecs.files.keywords import documented
from polycodec.codecs.files.kinds import kind_of, recognised, stored_kind
from polycodec.codecs.files.options import ImageEncode, options_of
from polycodec.codecs.files.rate import quality_asked
from polycodec.codecs.files.results import Packed
from polycodec.codecs.files.sets.options import PackOptions
from polycodec.codecs.signals import together
from polycodec.errors import CodecError, InputError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

BATCH, BATCH_PIXELS = 64, 1 << 20  # that are in memory together
_TOLD = 20  # notes of members
Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@documented(PackOptions)
def pack(
    input: Inputs,
    output: Target | None = None,
    *,
    codec: Codec | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Packed:
    """Code the images of a folder, or of a list of files, into one ``.plc`` file.

    A member's name is its path in the folder, or in the folder that all have in common;
    hidden files and what is no image are left out, and told in ``left``. Unless told,
    ``output`` stands beside the folder. ``quality`` is that of every member.

    Raises the errors of `polycodec.errors`; then nothing is written.
    """
    chosen = options_of(PackOptions, options)
    given = [input] if isinstance(input, (str, os.PathLike)) else list(input)
    inputs = [os.fspath(item) for item in given]
    if not inputs:
        raise InputError("there is nothing to pack; expected a folder or files")
    found, left = members_of(inputs)
    first = inputs[0] if places.is_far(inputs[0]) else Path(inputs[0])
    target = target_of(first, output, ".plc", chosen.force)
    ends = Ends(first, target, chosen, codec, progress)
    packing = _Packing(ends, found)
    with Writer() as writer, ends.writing() as file:
        for chunk in packing.chunks():
            writer.add(chunk)
        size = writer.finish(file, packing.header())
    return packing.result(size, left)


def members_of(inputs: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Names of members and their files, and files that are left out with the reasons.

    InputError for an empty folder and for names that a set cannot hold.
    """
    files, left = expand(inputs, _refusal)
    single = len(inputs) == 1 and not places.is_folder(inputs[0])
    root = os.path.dirname(root_of(inputs)) if single else root_of(inputs)
    listed, paths = [], []
    for file in files:
        if places.is_folder(file):
            raise InputError(f"nothing to do in the folder {file}; check the path")
        listed.append(names.normal(Path(below(file, root)).as_posix()))
        paths.append(file)
    names.stored(listed)  # what cannot be is refused before the work
    return dict(zip(listed, paths, strict=True)), left


def _refusal(path: str) -> str | None:
    if stored_kind(path) is not None:
        return "a .plc file already"
    taken = recognised(path) and kind_of(path) == "image"
    return None if taken else "no image"


@dataclass
class _Member:
    """An image that was read, on its way into the set."""

    name: str
    job: Job
    header: Header
    notes: list[str]


class _Packing:
    """A set that is being made; ``found``: names and files."""

    def __init__(self, ends: Ends[PackOptions], found: dict[str, str]) -> None:
        self.ends, self.found = ends, found
        options = ends.options
        self.codec = codec_for("image", ends)
        self.quality = quality_asked(options)
        self.options = ImageEncode(effort=options.effort, alpha=options.alpha)
        self.names: list[str] = []
        self.entries: list[Entry] = []
        self.failed: dict[str, str] = {}
        self.notes: list[str] = []
        self.pixels = self.before = 0
        self.bits = 0.0

    def chunks(self) -> Iterator[bytes]:
        """The chunks of the members, in their order."""
        if self.codec.fitted and not self.ends.options.keep_going:
            for name, path in self.found.items():  # fits take hours: errors come first
                self._job(name, path)
        done = 0
        for batch in self._batches():
            jobs = [member.job.encoder for member in batch]
            for member, coded in zip(
                batch, together.encode(jobs, self.quality), strict=True
            ):
                yield self._chunk(member, coded)
            done += len(batch)
            if self.ends.progress:
                self.ends.progress(done + len(self.failed), len(self.found))

    def header(self) -> Header:
        """The header of the set, once all members are coded."""
        if not self.names:
            name, message = next(iter(self.failed.items()))
            raise InputError(f"no image could be read; the first is {name}: {message}")
        return Header(
            model=self.codec.name,
            digest=self.codec.digest,
            kind="set",
            geometry=SetGeometry(len(self.names)),
            quality=self.quality,
            records=index_records(self.names, self.entries),
        )

    def result(self, size: int, left: dict[str, str]) -> Packed:
        """What there is to say of the set."""
        pairs = [f"{a} and {b}" for a, b in names.meeting(self.names)]
        if pairs:
            shown = ", ".join(pairs[:3]) + (" and more" if len(pairs) > 3 else "")
            self.notes.append(f"names that some file systems take for one: {shown}")
        return Packed(
            **self.ends.about(self.codec.name),
            bytes=size,
            members=len(self.names),
            before=self.before,
            bpp=8 * size / self.pixels,
            estimated_bpp=self.bits / self.pixels,
            quality=self.quality,
            left=left,
            failed=self.failed,
            notes=self.notes,
        )

    def _batches(self) -> Iterator[list[_Member]]:
        """Images that were read, as many as are coded together."""
        batch: list[_Member] = []
        pixels = 0
        for name, path in self.found.items():
            try:
                member = self._read(name, path)
            except CodecError as error:
                if not self.ends.options.keep_going:
                    raise
                self.failed[name] = str(error)
                continue
            size = member.job.image.width * member.job.image.height
            if batch and (len(batch) == BATCH or pixels + size > BATCH_PIXELS):
                yield batch
                batch, pixels = [], 0
            batch.append(member)
            pixels += size
        if batch:
            yield batch

    def _read(self, name: str, path: str) -> _Member:
        job = self._job(name, path)
        notes = job.image.notes + losses_in_png(job.image)
        if self.ends.options.metadata == "drop":
            job.records = []
        self.before += places.size(path)
        return _Member(name, job, job.header(self.quality), notes)

    def _job(self, name: str, path: str) -> Job:
        image = read_image(path)
        try:
            return Job(self.codec, image, self.options)
        except CodecError as error:
            raise type(error)(f"{name}: {error}") from error

    def _chunk(self, member: _Member, coded: list[bytes]) -> bytes:
        """The chunk of a member; notes it in the index."""
        geometry, records = member.header.geometry, member.header.records
        assert isinstance(geometry, ImageGeometry)
        alpha = any(record.type == "alpha" for record in records)
        self.names.append(member.name)
        self.entries.append(Entry(geometry, alpha, len(records)))
        self.pixels += geometry.width * geometry.height
        self.bits += member.job.encoder.estimated_bits
        for note in member.notes:
            if len(self.notes) < _TOLD:
                self.notes.append(f"{member.name}: {note}")
        return member_chunk(records, coded)
