# SPDX-License-Identifier: Apache-2.0
"""Write a file whole or not at all.

    with atomic_write("out/photo.plc", force=False) as target:
        target.write(...)

The bytes go to a temporary name in the same folder, which is renamed when the
block ends well and removed on any exception, an interrupt from the keyboard
included. Without ``force`` an existing file is refused, before the work and again
at the end (by a hard link, which cannot replace anything). A distant place
(`places.py`) is sent the file when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO

from polycodec import places
from polycodec.errors import CodecError, InputError


def check_target(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise InputError when ``path`` cannot be written: to be asked before work."""
    path = os.fspath(path)
    if places.is_far(path):
        places.check_far(path, force=force)
        return
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise InputError(
            f"cannot write {path}; the folder {folder} does not exist; create it first"
        )
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}; it is a folder; name a file")
    if not force and is_plain(path):
        raise InputError(f"{path} exists already; use --force to replace it")


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], *, force: bool = False, durable: bool = False
) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``path`` when the block ends well.

    Raises InputError when the folder is missing or not writable, the disk is full,
    or ``path`` exists and ``force`` is not set. Devices and pipes are written to
    directly, a symbolic link keeps pointing to its (replaced) file. ``durable``: the
    bytes are on the disk before the name is, also when power is lost.
    """
    if places.is_far(path):
        with places.far_write(os.fspath(path), force=force) as target:
            yield target
        return
    check_target(path, force=force)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as target:  # a pipe has no real path
                yield target
            return
        path = os.path.realpath(path)
        with _temporary(path) as (name, target):
            yield target
            if durable:
                target.flush()
                os.fsync(target.fileno())
            target.close()
            _rename(name, path, force)
    except CodecError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {path}; {reason}; nothing was kept") from error


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a name to write to, for libraries that want one; it becomes ``path``.

    An existing file is replaced when the block ends well, and kept when it does not.
    """
    path = os.path.realpath(path)
    with _temporary(path) as (name, target):
        target.close()
        yield name
        os.replace(name, path)


@contextlib.contextmanager
def _temporary(path: str) -> Iterator[tuple[str, BinaryIO]]:
    folder, base = os.path.split(path)
    # A name of its own length, so that a long base does not make it too long.
    name = os.path.join(folder, f".{base[:40]}.{secrets.token_hex(6)}.part")
    # os.open and not tempfile: the file gets the permissions of any new file.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    target = os.fdopen(os.open(name, flags, 0o666), "w+b")
    try:
        yield name, target
    finally:
        # Closing flushes, which fails again on a full disk: the name goes anyway.
        try:
            target.close()
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def _rename(name: str, path: str, force: bool) -> None:
    if not force:
        try:
            os.link(name, path)
            return
        except FileExistsError:
            raise InputError(
                f"{path} appeared meanwhile; use --force to replace it"
            ) from None
        except OSError:
            # This file system has no hard links: the check before has to do.
            check_target(path)
    os.replace(name, path)


def is_plain(path: str) -> bool:
    """Tell a file that would be lost from a device that is meant to be written."""
    return os.path.lexists(path) and (os.path.isfile(path) or not os.path.exists(path))
