# SPDX-License-Identifier: Apache-2.0
"""Both ends of an encoding or decoding: what is read, what is written, which codec.

The checks that need no file are made before the long work; a target is written whole
or not at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from polycodec.atomic import atomic_write, check_target
from polycodec.codecs import zoo
from polycodec.codecs.files.container.file import Header
from polycodec.codecs.files.kinds import KINDS, words_of
from polycodec.codecs.files.options import EncodeOptions, Options
from polycodec.codecs.files.sources import Source
from polycodec.errors import ModelError, UsageError

Target = str | os.PathLike[str] | BinaryIO
Progress = Callable[[int, int], None]  # (parts done, parts in all)
T = TypeVar("T")


def codec_for(kind: str, options: EncodeOptions, codec: Any) -> Any:
    """The codec to encode with: ``codec``, or the model asked for, or the default."""
    if codec is None:
        name = options.model or KINDS[kind].model
        codec = zoo.load(name, options.device, checkpoint=options.checkpoint)
    check_kind(codec, kind)
    return codec


def codec_of(header: Header, options: Options, codec: Any) -> Any:
    """The codec that made a file: ``codec`` if it has the digest, else by its name."""
    if codec is None or codec.digest != header.digest:
        codec = zoo.load(
            header.model,
            options.device,
            checkpoint=options.checkpoint,
            digest=header.digest,
        )
    check_kind(codec, header.kind)
    return codec


def check_kind(codec: Any, kind: str) -> None:
    """Refuse a codec that codes another kind of signal."""
    if codec.kind != kind:
        raise ModelError(
            f"the model '{codec.name}' codes {words_of(codec.kind)}; the input is "
            f"{words_of(kind)}; leave --model out, or name another"
        )


def target_of(input: Source, output: Target | None, suffix: str, force: bool) -> Target:
    """Where to write: ``output``, or beside ``input`` with ``suffix``; checked."""
    if output is None:
        if not isinstance(input, (str, os.PathLike)):
            raise UsageError("an input stream needs an output; give one")
        output = Path(input).with_suffix(suffix)
    if isinstance(output, (str, os.PathLike)):
        check_target(output, force=force)
    return output


@contextlib.contextmanager
def writing(target: Target, force: bool) -> Iterator[BinaryIO]:
    """A target as an open binary file, whole in the end or not there at all."""
    if isinstance(target, (str, os.PathLike)):
        with atomic_write(target, force=force) as file:
            yield file
    else:
        yield target


def counted(
    items: Iterable[T],
    total: int,
    progress: Progress | None,
    size: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yield the items and tell after each how much of ``total`` is done."""
    done = 0
    for item in items:
        done += size(item)
        if progress:
            progress(done, total)
        yield item
