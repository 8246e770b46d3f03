# SPDX-License-Identifier: Apache-2.0
"""Both ends of an encoding or decoding: what is read, what is written, which codec.

The checks that need no file are made before the long work; a target is written whole
or not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeAlias, TypeVar

from polycodec import places
from polycodec.atomic import atomic_write, check_target
from polycodec.codecs.files.container.file import Header
from polycodec.codecs.files.kinds import Kind, kind_writing, model_of, words_of
from polycodec.codecs.files.loader import Loader
from polycodec.codecs.files.options import CodingOptions, FileOptions, ReadOptions
from polycodec.codecs.files.sources import Source, Twice, name_of
from polycodec.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

Given: TypeAlias = "Codec | Loader | None"
Target = str | os.PathLike[str] | BinaryIO
Progress = Callable[[int, int], None]  # (parts done, parts in all)
Asked = TypeVar("Asked", bound=FileOptions, covariant=True)
T = TypeVar("T")


@dataclass(frozen=True)
class Ends(Generic[Asked]):
    """One file on its way: read from ``source``, written to ``target``, as asked.

    ``codec``: a loaded one to use, what loads it, or None; ``progress`` is told what is
    done; ``suffix``: the format to write.
    """

    source: Twice
    target: Target
    options: Asked
    codec: Given = None
    progress: Progress | None = None
    suffix: str = ".plc"
    started: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """The target as an open binary file, whole in the end or not there at all."""
        if isinstance(self.target, (str, os.PathLike)):
            with atomic_write(self.target, force=self.options.force) as file:
                yield file
        else:
            yield self.target

    def about(self, model: str) -> dict[str, Any]:
        """What every result says, once the work is done."""
        names = {"input": name_of(self.source), "output": name_of(self.target)}
        return {**names, "model": model, "seconds": time.perf_counter() - self.started}


def codec_for(kind: str, ends: Ends[CodingOptions]) -> Codec:
    """The codec to encode with: a loaded one, the model asked for, or the default."""
    codec, options = _known(ends.codec) or Loader(), ends.options
    if isinstance(codec, Loader):
        codec = codec.load(options.model or model_of(kind), options)
    elif options.model not in (None, codec.name):
        raise UsageError(
            f"model is '{options.model}', and codec is '{codec.name}'; give one"
        )
    check_kind(codec, kind)
    return codec


def codec_of(header: Header, options: ReadOptions, codec: Given) -> Codec:
    """The codec that made a file: ``codec`` if it has the digest, else by its name."""
    codec = _known(codec)
    if codec is None or isinstance(codec, Loader) or codec.digest != header.digest:
        loader = codec if isinstance(codec, Loader) else Loader()
        codec = loader.load(header.model, options, header.digest)
    check_kind(codec, header.kind)
    return codec


def _known(codec: Given) -> Given:
    """InputError for what is no codec: a name, say."""
    if codec is None or isinstance(codec, Loader) or hasattr(codec, "digest"):
        return codec
    raise no_codec(codec)


def no_codec(given: object) -> InputError:
    """What is said of what is given in place of a codec."""
    return InputError(f"{given!r:.60} is no codec; load it first: polycodec.load")


def check_kind(codec: Codec, kind: str) -> None:
    """Refuse a codec that codes another kind of signal."""
    if kind not in (codec.kind, *codec.signal.carries):
        raise ModelError(
            f"the model '{codec.name}' codes {words_of(codec.kind)}; expected one of "
            f"{words_of(kind)}; leave --model out, or name another"
        )


def target_of(input: Source, output: Target | None, suffix: str, force: bool) -> Target:
    """Where to write: ``output``, or beside ``input`` with ``suffix``; checked."""
    if output is None:
        if not isinstance(input, (str, os.PathLike)):
            raise UsageError("an input stream needs an output; give one")
        name = os.fspath(input)
        name = name.rstrip("/") if places.is_far(name) else os.path.normpath(name)
        output = os.path.splitext(name)[0] + suffix
    if isinstance(output, (str, os.PathLike)):
        if isinstance(input, (str, os.PathLike)) and _same(input, output):
            raise UsageError(
                f"{os.fspath(output)} is the input too, and would be replaced; name "
                "another output"
            )
        check_target(output, force=force)
    elif not _is_writable(output):
        raise UsageError(
            f"cannot write to this {type(output).__name__}; expected a path, or a "
            "binary file that is open for writing"
        )
    return output


def in_memory(input: Source, output: Target | None) -> tuple[Target | None, io.BytesIO]:
    """The target, and what a result of bytes is written to where none was named."""
    kept = io.BytesIO()
    if output is None and isinstance(input, (bytes, bytearray, memoryview)):
        return kept, kept
    return output, kept


def _is_writable(target: Any) -> bool:
    try:
        return not isinstance(target, io.TextIOBase) and bool(target.writable())
    except AttributeError:  # files of the standard library that do not say so
        return callable(getattr(target, "write", None))
    except ValueError:  # it is closed
        return False


def _same(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    if places.is_far(a) or places.is_far(b):
        return a == b
    try:
        return os.path.isfile(a) and os.path.samefile(a, b)
    except OSError:
        return False


def encoded_as(target: Target) -> None:
    """Refuse to write a ``.plc`` file under the name of another format; UsageError."""
    name = name_of(target)
    if kind_writing(name) is not None:
        raise UsageError(
            f"{name} would be a .plc file under another format's name; name one that "
            "ends in .plc; a decoded file is written by decode"
        )


def decoded_as(target: Target, format: str | None, kind: Kind) -> str:
    """Suffix of the format to decode to; UsageError for one that is not written."""
    suffix = f".{format}" if format else os.path.splitext(name_of(target))[1]
    if suffix and suffix.lower() not in kind.written:
        raise UsageError(
            f"cannot write {kind.words} as '{suffix}'; expected one of "
            f"{', '.join(kind.written)}"
        )
    return suffix.lower() or kind.decoded


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
