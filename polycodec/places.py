# SPDX-License-Identifier: Apache-2.0
"""Where files are: on this machine's disks, or in a place that fsspec reaches.

    s3://bucket/photo.png   gs://...   https://... (read only)   memory://...
    photo.png

Whatever names a file goes through here, so that both are asked the same questions.
fsspec comes along with torch; what a place needs beside it (s3fs for s3://) is named
when it is missing. A file of a distant place is read by parts, as they are wanted, and
written whole: it is made on this machine and sent when it is complete.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from polycodec.errors import CodecError, InputError, UsageError

Name = str | os.PathLike[str]
# A drive of Windows has one letter.
_FAR = re.compile(r"(?:[a-z0-9][a-z0-9+.-]+::)*([a-z0-9][a-z0-9+.-]+)://")
_READ_ONLY = ("http", "https")
# A file appears in these when it has arrived, not before; in others it gets its name
# by being moved.
_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory")
_PIECE = 1 << 20


def is_far(name: object) -> bool:
    """Whether ``name`` is one of a distant place: it begins with ``scheme://``."""
    return isinstance(name, str) and _FAR.match(name) is not None


def exists(name: Name) -> bool:
    """Whether there is a file or a folder of that name, or a link that leads nowhere.

    InputError when a distant place does not answer.
    """
    if not is_far(name):
        return os.path.lexists(name)
    with _asking(str(name), "find") as (system, path):
        system.invalidate_cache(path)  # others write there too
        return bool(system.exists(path))


def is_folder(name: Name) -> bool:
    """Whether ``name`` is a folder; nothing is one that can only be read."""
    if not is_far(name):
        return os.path.isdir(name)
    if _scheme(str(name)) in _READ_ONLY:
        return False
    with _asking(str(name), "find") as (system, path):
        return bool(system.isdir(path))


def size(name: Name) -> int:
    """The bytes of a file; 0 of what is none, or where nobody says."""
    if not is_far(name):
        return os.path.getsize(name) if os.path.isfile(name) else 0
    try:
        with _asking(str(name), "find") as (system, path):
            return int(system.size(path) or 0)
    except InputError:
        return 0


def there(names: Iterable[str]) -> set[str]:
    """Those of ``names`` that exist; a distant folder is asked once."""
    found, folders = set(), defaultdict(list)
    for name in names:
        if is_far(name):
            folders[posixpath.dirname(name)].append(name)
        elif exists(name):
            found.add(name)
    for folder, inside in folders.items():
        with _asking(folder, "list") as (system, path):
            system.invalidate_cache(path)
            try:
                rows = system.ls(path, detail=False)
            except FileNotFoundError:
                continue
        here = {posixpath.basename(row.rstrip("/")) for row in rows}
        found |= {name for name in inside if posixpath.basename(name) in here}
    return found


def files_below(folder: str) -> list[str]:
    """The names of all files in a distant folder and its folders, sorted."""
    with _asking(folder, "list") as (system, path):
        root = path.rstrip("/")
        found = sorted(name for name in system.find(path) if name.startswith(root))
    return [folder.rstrip("/") + name.removeprefix(root) for name in found]


def join(folder: Name, name: str) -> str:
    """The name of a file in a folder."""
    folder = os.fspath(folder)
    if not is_far(folder):
        return os.path.join(folder, name)
    return f"{folder.rstrip('/')}/{name.replace(os.sep, '/')}"


@contextlib.contextmanager
def opened(name: Name) -> Iterator[BinaryIO]:
    """Open a file for reading; InputError when it cannot be read."""
    if not is_far(name):
        try:
            file: BinaryIO = open(name, "rb")  # noqa: SIM115
        except OSError as error:
            reason = error.strerror
            raise InputError(f"cannot read {os.fspath(name)}; {reason}") from error
        with file:
            yield file
        return
    with _asking(str(name), "read") as (system, path):
        inner = system.open(path, "rb")
    with inner, io.BufferedReader(_Far(inner, str(name)), _PIECE) as reader:
        yield reader


def check_far(name: str, *, force: bool = False) -> None:
    """Raise what forbids to write to a distant place; to be asked before work."""
    if _scheme(name) in _READ_ONLY:
        raise UsageError(
            f"cannot write {name}; {_scheme(name)} can only be read; name another "
            "output with -o"
        )
    if not force and exists(name):
        raise InputError(f"{name} exists already; use --force to replace it")


@contextlib.contextmanager
def far_write(name: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that is sent to a distant place when the block ends well."""
    check_far(name, force=force)
    with tempfile.TemporaryDirectory() as folder:
        made = os.path.join(folder, "file")
        with open(made, "w+b") as file:
            yield file
        if not force and exists(name):
            raise InputError(f"{name} appeared meanwhile; use --force to replace it")
        with _asking(name, "write") as (system, path):
            _send(system, made, path, whole=_scheme(name) in _WHOLE)


def _send(system: Any, made: str, path: str, *, whole: bool) -> None:
    if whole:
        system.put_file(made, path)
        return
    folder, base = posixpath.split(path)
    system.makedirs(folder, exist_ok=True)
    part = f"{folder}/.{base[:40]}.{os.urandom(6).hex()}.part"
    try:
        system.put_file(made, part)
        system.mv(part, path)
    except BaseException:
        with contextlib.suppress(Exception):
            system.rm_file(part)
        raise


class _Far(io.RawIOBase):
    """An open file of a distant place, whatever is wrong with it an InputError.

    It has a position of its own: fsspec hands out the same object to all who open a
    file in memory. What cannot be read twice is copied.
    """

    def __init__(self, inner: Any, name: str) -> None:
        self.name, self._at = name, 0
        with _errors(name, "read"):
            if not inner.seekable():
                copy = tempfile.SpooledTemporaryFile(8 * _PIECE)  # noqa: SIM115
                while piece := inner.read(_PIECE):
                    copy.write(piece)
                inner = copy
            self._inner = inner
            self._size = inner.seek(0, os.SEEK_END)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; nothing is asked of the place."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what is next."""
        with _errors(self.name, "read"):
            self._inner.seek(self._at)
            data: bytes = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _scheme(name: str) -> str:
    found = _FAR.match(name)
    return found[1] if found else ""


@contextlib.contextmanager
def _asking(name: str, what: str) -> Iterator[tuple[Any, str]]:
    """The file system of a name and its path there; its errors become ours."""
    with _errors(name, what):
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise UsageError(
                f"{name} is reached through the package 'fsspec', which is not "
                "installed; run pip install fsspec"
            ) from None
        try:
            system, path = url_to_fs(name)
        except ImportError as error:  # fsspec's own words name the package
            raise UsageError(
                f"{_scheme(name)}:// needs a package that is not installed; {error}"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"cannot {what} {name}; {error}; expected a path, or a place such as "
                "s3://, gs:// or https://"
            ) from error
        yield system, path


@contextlib.contextmanager
def _errors(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except CodecError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no such file: {name}; check the name") from error
    except Exception as error:  # each place has exceptions of its own
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot {what} {name}; {reason}; check the name") from error
