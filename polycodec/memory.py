# SPDX-License-Identifier: Apache-2.0
"""What this user's own trainings and exports brought from outside the package.

    parts.txt      files and modules that configs of trainings have imported
    weights.txt    digest, part, file: where the parts of exported weights came from

Weights never name code, so that a stranger's run nothing: this memory is a user's own.
A folder that cannot be written is no error: POLYCODEC_PARTS still names parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from polycodec.errors import InputError
from polycodec.home import own_folder

PARTS, WEIGHTS = "parts.txt", "weights.txt"


def remember_parts(items: Iterable[str], folder: str | os.PathLike[str]) -> None:
    """Keep what a config that was trained has imported, files as seen from ``folder``.

    Its weights can then be used by later processes without naming the parts again.
    """
    known = remembered()
    _append(PARTS, [item for item in absolute(items, folder) if item not in known])


def remembered() -> list[str]:
    """Absolute paths of files, and names of modules, oldest first."""
    return _lines(PARTS)


def remember_weights(digest: str, files: Mapping[str, str]) -> None:
    """Keep the files that the parts of exported weights came from, by their names."""
    lines = [f"{digest}\t{name}\t{file}" for name, file in files.items()]
    _append(WEIGHTS, [line for line in lines if line not in _lines(WEIGHTS)])


def files_of(digest: str) -> dict[str, str]:
    """The files of the parts of weights, by the parts' names; the newest export's."""
    rows = (line.split("\t") for line in _lines(WEIGHTS))
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == digest}


def absolute(items: Iterable[str], folder: str | os.PathLike[str]) -> list[str]:
    """Files of ``items`` as seen from ``folder``, modules as they are."""
    return [
        str(Path(folder, item).resolve()) if item.endswith(".py") else item
        for item in items
    ]


def _place(name: str) -> Path:
    return own_folder("config") / name


def _lines(name: str) -> list[str]:
    try:
        return _place(name).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError, InputError):
        return []


def _append(name: str, lines: list[str]) -> None:
    if not lines:
        return
    try:
        _place(name).parent.mkdir(parents=True, exist_ok=True)
        with _place(name).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except (OSError, InputError):
        return
