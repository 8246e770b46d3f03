# SPDX-License-Identifier: Apache-2.0
"""Which files are measured: a data set by name, a folder, a file, or a list of files.

"kodak" ──► Datasets.find ──► its files      a folder ──► files of these suffixes
                                             paths ──► exactly those
"""

from __future__ import annotations

import contextlib
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from polycodec.errors import InputError
from polycodec.progress import bar

ENVIRONMENT = "POLYCODEC_DATA"  # names the folder of data sets
NAMED = 10  # files that one error names

Place: TypeAlias = str | pathlib.Path
Dataset: TypeAlias = str | pathlib.Path | Sequence[str | pathlib.Path]


@dataclass(frozen=True)
class Item(ABC):
    """One file of a data set; its signal is read when asked for."""

    name: str
    path: pathlib.Path

    @abstractmethod
    def read(self) -> np.ndarray:
        """Return the signal as its kind's subjects take it; InputError without."""

    def check(self) -> None:
        """Raise InputError for what cannot be measured: reads all of it unless told."""
        self.read()

    @staticmethod
    @abstractmethod
    def digest(signal: np.ndarray) -> str:
        """Return the identity of a signal in stored results, 16 hexadecimal digits."""


@dataclass(frozen=True)
class Datasets:
    """The data sets of one kind of signal."""

    own: str  # the name of the one that is known by name
    find: Callable[[Place | None], list[pathlib.Path]]  # its files, below a folder
    item: type[Item]
    suffixes: tuple[str, ...]
    thing: str  # what a file is called: "image"

    def count(self, dataset: Dataset) -> int:
        """Return how many files of this kind a data set has, without opening any."""
        if self._is_own(dataset):
            return 1
        if isinstance(dataset, (str, pathlib.Path)):
            place = pathlib.Path(dataset)
            if place.is_dir():
                return len(self.files_in(place))
            dataset = [place]
        return sum(self._fits(pathlib.Path(item)) for item in dataset)

    def open(
        self, dataset: Dataset, *, data: Place | None = None
    ) -> tuple[str, list[Item]]:
        """Find the files of a data set: its name and its items, sorted.

        ``dataset`` is the name of the known one, a folder, a file, or a list of files;
        ``data`` a folder that may hold the known one. InputError where there are none.
        """
        if self._is_own(dataset):
            return self.own, [self.item(p.name, p) for p in self.find(data)]
        if isinstance(dataset, (str, pathlib.Path)):
            place = pathlib.Path(dataset)
            if place.is_dir():
                return self._called(place), self._items_in(place)
            dataset = [place]
        paths = [pathlib.Path(item) for item in dataset]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing or not paths:
            raise InputError(
                f"no such data set, folder or file: {', '.join(missing) or '(none)'}; "
                f"expected {self.own}, a folder of {self.thing}s, or such files; check "
                "the path"
            )
        alike = len({path.name for path in paths}) < len(paths)
        return "files", [self.item(str(p) if alike else p.name, p) for p in paths]

    def _called(self, folder: pathlib.Path) -> str:
        """The name of a folder; that of the known set only where it is that set."""
        name = folder.resolve().name
        if name.lower() != self.own:
            return name
        with contextlib.suppress(InputError):
            if self.find(folder) == self.files_in(folder):
                return self.own
        return f"{name} (own files)"

    def _is_own(self, dataset: Dataset) -> bool:
        return isinstance(dataset, str) and dataset.lower() == self.own

    def _fits(self, path: pathlib.Path) -> bool:
        return path.suffix.lower() in self.suffixes

    def files_in(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Return the files below a folder that are of this kind, sorted."""
        return sorted(p for p in folder.rglob("*") if self._fits(p) and p.is_file())

    def _items_in(self, folder: pathlib.Path) -> list[Item]:
        paths = self.files_in(folder)
        if not paths:
            raise InputError(
                f"no {self.thing}s in {folder}; expected files ending in "
                f"{', '.join(self.suffixes)}; check the path"
            )
        return [self.item(path.relative_to(folder).as_posix(), path) for path in paths]


def check_all(items: Sequence[Item], *, quiet: bool) -> None:
    """Check every file, before anything is coded; InputError names those refused."""
    refused = []
    with bar(len(items), "checking", quiet=quiet) as step:
        for item in items:
            step(item.name)
            try:
                item.check()
            except InputError as error:
                refused.append(str(error))
    if len(refused) > NAMED:
        refused[NAMED:] = [f"and {len(refused) - NAMED} more"]
    if refused:
        raise InputError("\n".join(refused))


def find(items: Sequence[Item], name: str) -> Item:
    """Return the item of this name, with or without its suffix; InputError without."""
    for item in items:
        if name in (item.name, item.path.stem):
            return item
    raise InputError(
        f"no '{name}' in this data set; expected one of "
        f"{', '.join(item.name for item in items[:6])}...; choose one of them"
    )
