# SPDX-License-Identifier: Apache-2.0
"""Both ends of an encoding or decoding: what is read, what is written, what is asked.

The checks that need no file are made before the long work; a target is written whole
or not at all.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from polycodec.codecs import zoo
from polycodec.codecs.files.atomic import atomic_write, check_target
from polycodec.codecs.files.spool import spooled
from polycodec.errors import InputError, ModelError, UsageError

Source = str | os.PathLike[str] | BinaryIO
Target = str | os.PathLike[str] | BinaryIO
_KINDS = {"image": "images", "video": "video", "speech": "sound"}


def check_rate(**requests: float | None) -> None:
    """Refuse more than one request for a rate, and numbers that are none."""
    given = {k: v for k, v in requests.items() if v is not None}
    names = [name.replace("_", "-") for name in requests]
    if len(given) > 1:
        raise UsageError(f"more than one of {', '.join(names)}; give one")
    for name, value in given.items():
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(
                f"{name.replace('_', '-')} is {value}; expected a number of at least 0"
            )


def check_kind(codec: Any, kind: str) -> None:
    """Refuse a codec that codes another kind of signal."""
    found = getattr(codec, "kind", kind)
    if found != kind:
        raise ModelError(
            f"the model '{codec.name}' codes {_KINDS.get(found, found)}; the input is "
            f"{_KINDS[kind]}; leave --model out, or name another"
        )


def codec_of(
    name: str,
    digest: bytes,
    kind: str,
    codec: Any,
    *,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
) -> Any:
    """The codec that made a file: ``codec`` if it has the digest, else by its name."""
    if codec is None or codec.digest != digest:
        codec = zoo.load(name, device, checkpoint=checkpoint, digest=digest)
    check_kind(codec, kind)
    return codec


def target_of(input: Source, output: Target | None, suffix: str, force: bool) -> Target:
    """Where to write: ``output``, or beside ``input`` with ``suffix``; checked."""
    if output is None:
        if not isinstance(input, (str, os.PathLike)):
            raise UsageError("an input stream needs an output; give one")
        output = Path(input).with_suffix(suffix)
    if isinstance(output, (str, os.PathLike)):
        check_target(output, force=force)
    return output


def put(target: Target, data: bytes, force: bool) -> None:
    """Write all of ``data``."""
    with writing(target, force) as file:
        file.write(data)


@contextlib.contextmanager
def writing(target: Target, force: bool) -> Iterator[BinaryIO]:
    """A target as an open binary file, whole in the end or not there at all."""
    if isinstance(target, (str, os.PathLike)):
        with atomic_write(target, force=force) as file:
            yield file
    else:
        yield target


class opened:
    """A path opened for reading, or a stream as it is."""

    def __init__(self, source: Source) -> None:
        self.source, self.file = source, None

    def __enter__(self) -> BinaryIO:
        if not isinstance(self.source, (str, os.PathLike)):
            return self.source
        try:
            self.file = open(self.source, "rb")
        except OSError as error:
            raise InputError(
                f"cannot open {os.fspath(self.source)}; {error.strerror}"
            ) from error
        return self.file

    def __exit__(self, *error: object) -> None:
        if self.file:
            self.file.close()


def seekable(source: Source) -> Source:
    """The source, or a temporary copy where it cannot be read twice (a pipe)."""
    if not isinstance(source, (str, os.PathLike)):
        return source if source.seekable() else spooled(source)
    if not os.path.exists(source) or os.path.isfile(source) or os.path.isdir(source):
        return source
    with opened(source) as pipe:
        return spooled(pipe)


def name_of(source: Source) -> str:
    """What to call a source or target in messages and results; "-" is a stream."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"
