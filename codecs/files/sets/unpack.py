# SPDX-License-Identifier: Apache-2.0
"""The images of a set, all or some, as files of a folder.

    icons.plc ─ index ─ members that are wanted ─ codec ─ icons/a.png
                        no others are read                icons/b/c.png

A member that is damaged is told by its name, and the others are taken out all the same.
What is written lies inside the folder, whatever the set says.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from polycodec.atomic import atomic_write
from polycodec.codecs.files.container import names
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.container.members import Index, Member
from polycodec.codecs.files.ends import Progress, codec_of, decoded_as
from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.decode import Opened, read_plc
from polycodec.codecs.files.image.write import write_image
from polycodec.codecs.files.keywords import documented
from polycodec.codecs.files.kinds import KINDS
from polycodec.codecs.files.options import options_of
from polycodec.codecs.files.results import ImageDecoded, Unpacked
from polycodec.codecs.files.sets.options import UnpackOptions
from polycodec.codecs.files.sets.pack import BATCH, BATCH_PIXELS
from polycodec.codecs.files.sources import Source, name_of, opened, seekable
from polycodec.codecs.signals import together
from polycodec.errors import CodecError, InputError, UsageError
from polycodec.places import is_far

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec


@documented(UnpackOptions)
def unpack(
    input: Source,
    output: str | os.PathLike[str] | None = None,
    *,
    codec: Codec | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Unpacked:
    """Write the images of a set, or those that ``only`` names, into a folder.

    Unless told, the folder stands beside the set and has its name. A member becomes a
    PNG of its name, or what ``format`` says; of two that would become one file each
    keeps its whole name. Damaged members are left out: the error that is raised at the
    end names them, after the others have been written.
    """
    started = time.perf_counter()
    with opened(seekable(input)) as source:
        work = Unpacking(
            source, input, output, options_of(UnpackOptions, options), codec
        )
        failed: dict[str, CodecError] = {}
        for done, (name, outcome) in enumerate(work.run(), 1):
            if isinstance(outcome, CodecError):
                failed[name] = outcome
            if progress:
                progress(done, len(work.wanted))
    if failed:
        told = "; ".join(str(error) for error in list(failed.values())[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise type(next(iter(failed.values())))(
            f"{len(failed)} of {len(work.wanted)} members are not unpacked, the others "
            f"are: {told}{more}"
        )
    return Unpacked(
        input=name_of(input) if not isinstance(input, bytes) else "-",
        output=os.fspath(work.folder),
        model=work.index.reader.header.model,
        seconds=time.perf_counter() - started,
        bytes=work.index.reader.bytes_read,
        members=len(work.wanted),
        notes=work.notes,
    )


def decode_members(
    members: Sequence[Member], codec: Codec
) -> Iterator[tuple[ImageData, list[str]] | CodecError]:
    """The image of each member and what was left out of it, or what is wrong."""
    try:
        each = [Opened(member, codec) for member in members]
        sizes = [(one.geometry.height, one.geometry.width) for one in each]
        decoders, samples = [e.decoder for e in each], [e.samples for e in each]
        pixels = together.decode(decoders, sizes, samples)
    except CodecError:  # of one of them: which, and all others
        for member in members:
            try:
                yield read_plc(member, codec=codec)
            except CodecError as error:
                yield error
        return
    for one, member, x in zip(each, members, pixels, strict=True):
        yield one.image(x, one.alpha), list(member.warnings)


class Unpacking:
    """A set that is being taken out; ``wanted``: names; ``folder``: where they go."""

    def __init__(
        self,
        source: BinaryIO,
        input: Source,
        output: str | os.PathLike[str] | None,
        options: UnpackOptions,
        codec: Codec | None,
    ) -> None:
        suffix = decoded_as("-", options.format, KINDS["image"])
        self.index = Index(reader := Reader(source, tolerant=True))
        self.notes = (
            [] if reader.whole else ["the file is cut, or something follows it"]
        )
        self.wanted = names.chosen(self.index.names, options.only)
        self.options, self._given = options, codec
        if output == "":  # of a variable that is not set, say: not this folder
            raise UsageError("the output's name is empty; expected a folder")
        if output is None:
            if not isinstance(input, (str, os.PathLike)) or is_far(input):
                raise InputError("a stream has no folder; name a folder to unpack to")
            output = Path(input).with_suffix("")
        elif is_far(output):
            raise UsageError(
                f"cannot unpack into {output}; a set is unpacked into a folder of this "
                "machine; name one with -o"
            )
        self.folder = Path(output)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; name a folder to unpack to")
        self.suffix = suffix
        self.targets = _targets(self.index.names, suffix)
        self._codec: Codec | None = None
        self._made: dict[str, str] = {}  # places, and the members that lie there

    def leave_existing(self) -> dict[str, str]:
        """Want only members whose files are not there; the others, with the reason."""
        left = {
            name: f"{path} exists already"
            for name in self.wanted
            if os.path.lexists(path := self.folder / self.targets[name])
        }
        self.wanted = [name for name in self.wanted if name not in left]
        return left

    def run(self) -> Iterator[tuple[str, ImageDecoded | CodecError]]:
        """Take out the members; of each, in their order, what became of it."""
        batch: list[tuple[str, Member | CodecError]] = []
        pixels = 0
        for name in self.wanted:
            geometry = self.index.entry(name).geometry
            size = geometry.width * geometry.height
            if batch and (len(batch) == BATCH or pixels + size > BATCH_PIXELS):
                yield from self._written(batch)
                batch, pixels = [], 0
            try:
                batch.append((name, self.index.open(name)))
            except CodecError as error:
                batch.append((name, error))
            pixels += size
        yield from self._written(batch)

    def _written(
        self, batch: list[tuple[str, Member | CodecError]]
    ) -> Iterator[tuple[str, ImageDecoded | CodecError]]:
        started = time.perf_counter()
        whole = [m for _, m in batch if isinstance(m, Member)]
        decoded = decode_members(whole, self.codec()) if whole else iter(())
        for name, member in batch:
            if isinstance(member, CodecError):
                yield name, member
                continue
            outcome = next(decoded)
            try:
                if isinstance(outcome, CodecError):
                    raise type(outcome)(f"member '{name}' is damaged; {outcome}")
                result = self._write(name, *outcome)
            except CodecError as error:
                yield name, error
                continue
            result.bytes = member.size
            now = time.perf_counter()
            result.seconds, started = now - started, now
            yield name, result

    def _write(self, name: str, image: ImageData, notes: list[str]) -> ImageDecoded:
        path = self.folder / self.targets[name]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, RecursionError) as error:  # of this member, not of the others
            reason = getattr(error, "strerror", None) or "too many folders in folders"
            raise InputError(
                f"cannot make the folder of member '{name}'; {reason}; unpack "
                "into another folder, or this one apart, with --only"
            ) from error
        inside = os.path.realpath(self.folder)
        if not Path(os.path.realpath(path.parent)).is_relative_to(inside):
            raise InputError(
                f"member '{name}' would be written outside {self.folder}, through a "
                "link there; unpack into another folder"
            )
        place = str(path).casefold()
        if place in self._made and path.exists():
            raise InputError(
                f"members '{self._made[place]}' and '{name}' would become one file "
                "here; unpack them apart, with --only"
            )
        with atomic_write(path, force=self.options.force) as file:
            notes = notes + write_image(image, file, suffix=self.suffix)
        self._made[place] = name
        return ImageDecoded(
            input=name,
            output=os.fspath(path),
            model=self.index.reader.header.model,
            seconds=0.0,
            bytes=0,
            width=image.width,
            height=image.height,
            notes=notes,
        )

    def codec(self) -> Codec:
        """The codec of the set, loaded when the first member needs it."""
        if self._codec is None:
            header = replace(self.index.reader.header, kind="image")
            self._codec = codec_of(header, self.options, self._given)
        return self._codec


def _targets(listed: Sequence[str], suffix: str) -> dict[str, str]:
    """The file that each member becomes; two of one stem keep their whole names."""
    short = [str(PurePosixPath(name).with_suffix(suffix)) for name in listed]
    count = Counter(short)
    return {
        name: path if count[path] == 1 else f"{name}{suffix}"
        for name, path in zip(listed, short, strict=True)
    }
