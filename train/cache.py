# SPDX-License-Identifier: Apache-2.0
"""Decoded training signals of a folder: one flat file, a memory map of all workers.

    <cache>/<key>.raw     samples of all files, one after the other
    <cache>/<key>.json    their shapes
    <cache>/<folder>.seen the key of a folder as it was seen last

Decoding an AVIF takes longer than training on a crop of it, so a folder is decoded
once. The key is a hash of what the files hold and are called below the folder: what was
edited or added is decoded anew, however old it says it is, and a folder that was moved
is not. Files are read for it once: the key of a folder is kept beside what the system
says of its files, of which nobody can set the time of the last change (on Windows it
has none, and an edit of equal size that sets its times back goes unseen). Two runs may
fill one cache at once.
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polycodec.atomic import atomic_write
from polycodec.errors import CodecError, InputError

Progress = Callable[[int, int], None]
_TICK = 2_000_000_000  # ns; the coarsest clock of file systems


class SignalCache(abc.ABC):
    """Decoded files of a folder as views of one file; InputError when there are none.

    ``progress`` is called with files done and files there are.
    """

    called: ClassVar[str]  # what the files are, for people
    suffixes: ClassVar[Collection[str]]
    dtype: ClassVar[type[np.generic]]

    def __init__(
        self, folder: str | Path, cache: str | Path, progress: Progress | None = None
    ) -> None:
        self.folder = Path(folder)
        every = self.folder.rglob("*")
        self.files = sorted(
            p for p in every if p.suffix.lower() in self.suffixes and p.is_file()
        )
        if not self.files:
            raise InputError(
                f"no {self.called} below {folder}; expected {sorted(self.suffixes)}"
            )
        base = Path(cache) / f"{self.called}-{self._known_key(Path(cache))}"
        shapes = self._shapes_in(base)
        if shapes is None:
            try:
                shapes = self._fill(base, progress)
            except OSError as error:
                raise InputError(
                    f"cannot keep decoded {self.called} in {cache}; {error}; free "
                    "space, or choose another data.cache"
                ) from error
        self.shapes: list[tuple[int, ...]] = shapes
        self.data = np.memmap(base.with_suffix(".raw"), self.dtype, mode="r")
        self.starts = np.cumsum([0, *map(math.prod, shapes)])

    @abc.abstractmethod
    def decode(self, path: Path) -> np.ndarray[Any, Any]:
        """Decode a file to an array of ``dtype``; InputError names a broken one."""

    def settings(self) -> str:
        """What else than the files decides the samples; part of the key."""
        return ""

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> np.ndarray[Any, Any]:
        """Signal i as `decode` gave it, read-only."""
        return self.data[self.starts[i] : self.starts[i + 1]].reshape(self.shapes[i])

    def _known_key(self, cache: Path) -> str:
        """The key, from the files only where the folder is not as it was seen last."""
        about = f"{self.folder.resolve()}\n{self.settings()}"
        place = hashlib.sha256(about.encode(errors="surrogateescape"))
        seen = cache / f"{self.called}-{place.hexdigest()[:16]}.seen"
        state, settled = self._state()
        with contextlib.suppress(OSError, ValueError):
            known, key = seen.read_text().split()
            if known == state:
                return key
        key = self._key()
        if settled and self._state()[0] == state:
            with contextlib.suppress(OSError, CodecError):  # a convenience
                cache.mkdir(parents=True, exist_ok=True)
                with atomic_write(seen, force=True) as out:
                    out.write(f"{state} {key}\n".encode())
        return key

    def _state(self) -> tuple[str, bool]:
        """What the system says of the files, and whether a change would show in it.

        It would not, where a file changes twice within one tick of its clock.
        """
        sha, newest, now = hashlib.sha256(), 0, time.time_ns()
        for path in self.files:
            name = path.relative_to(self.folder).as_posix()
            try:
                of = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from error
            sha.update(f"{name}\t".encode(errors="surrogateescape"))
            times = of.st_mtime_ns, of.st_ctime_ns
            sha.update(f"{of.st_size} {times} {of.st_dev} {of.st_ino}\n".encode())
            newest = max(newest, *times)
        return sha.hexdigest(), newest < now - _TICK

    def _key(self) -> str:
        sha = hashlib.sha256(self.settings().encode())
        for path in self.files:
            name = path.relative_to(self.folder).as_posix()
            sha.update(f"\n{name}\t".encode(errors="surrogateescape"))
            try:
                with open(path, "rb") as file:
                    while piece := file.read(1 << 20):
                        sha.update(piece)
                    sha.update(file.tell().to_bytes(8, "little"))
            except OSError as error:
                raise _unreadable(path, error) from error
        return sha.hexdigest()[:16]

    def _shapes_in(self, base: Path) -> list[tuple[int, ...]] | None:
        """Shapes of what is kept, or None where it is not there or not whole."""
        try:
            kept = json.loads(base.with_suffix(".json").read_text())
            shapes = [tuple(shape) for shape in kept]
            size = base.with_suffix(".raw").stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        whole = sum(map(math.prod, shapes)) * np.dtype(self.dtype).itemsize
        return shapes if len(shapes) == len(self.files) and size == whole else None

    def _fill(self, base: Path, progress: Progress | None) -> list[tuple[int, ...]]:
        base.parent.mkdir(parents=True, exist_ok=True)
        shapes = []
        with atomic_write(base.with_suffix(".raw"), force=True) as out:
            for i, path in enumerate(self.files):
                samples = self.decode(path)
                shapes.append(samples.shape)
                out.write(samples.tobytes())
                if progress:
                    progress(i + 1, len(self.files))
            if not out.tell():
                raise InputError(f"the {self.called} below {self.folder} are empty")
        with atomic_write(base.with_suffix(".json"), force=True) as out:
            out.write(json.dumps(shapes).encode())
        return shapes


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {path}; {error.strerror}; remove it")
