# SPDX-License-Identifier: Apache-2.0
"""What lies in folders: which files are taken, and why others are not.

files, left = expand(["photos", "a.png"], refuse)     each once, in order
root_of(["photos/a", "photos/b"])                     the folder they have in common
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from polycodec import places
from polycodec.errors import InputError, UsageError

Taken = Callable[[str], str | None]


def expand(
    inputs: Sequence[str], refuse: Taken, whole: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Files that are named or lie in folders, each once, and what is not taken."""
    files: dict[str, str] = {}
    left: dict[str, str] = {}
    for name in inputs:
        if not name:  # of a variable that is not set, say: not this folder
            raise UsageError(
                "an input's name is empty; expected a file, a folder, or -"
            )
        path = name if places.is_far(name) else str(Path(name))
        inside = not whole and places.is_folder(path)
        look = _found_far if places.is_far(path) else _found_in
        found = look(path, refuse, left) if inside else [path]
        if not found and len(inputs) > 1:
            found = [path]  # one failure among others, told when it is its turn
        if not found:
            reasons = Counter(left.values())
            told = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common(4))
            raise InputError(
                f"nothing to do in the folder {path}; found {told or 'no files'}; "
                "check the path"
            )
        for file in found:
            key = file if places.is_far(file) else os.path.abspath(file)
            files.setdefault(key, file)
    return list(files.values()), left


def _found_far(folder: str, refuse: Taken, left: dict[str, str]) -> list[str]:
    found = []
    for file in places.files_below(folder):
        below = file.removeprefix(folder.rstrip("/"))
        reason = "hidden" if "/." in below else refuse(file)
        if reason is None:
            found.append(file)
        else:
            left[file] = reason
    return found


def _found_in(folder: str, refuse: Taken, left: dict[str, str]) -> list[str]:
    found = []

    def unreadable(error: OSError) -> None:
        left[str(error.filename)] = f"cannot be read: {error.strerror}"

    for where, folders, names in os.walk(folder, onerror=unreadable):
        for name in sorted(folders):
            path = Path(where, name)
            if name.startswith("."):
                left[str(path)] = "hidden"
                folders.remove(name)
            elif path.is_symlink():
                left[str(path)] = "a link to a folder; name it to take it too"
        folders.sort()
        for name in names:
            path = Path(where, name)
            reason = "hidden" if name.startswith(".") else None
            if not path.is_file():
                reason = "a broken link" if path.is_symlink() else "no regular file"
            reason = reason or refuse(str(path))
            if reason is None:
                found.append(path)
            else:
                left[str(path)] = reason
    return [str(path) for path in sorted(found)]


def root_of(inputs: Sequence[str]) -> str:
    """The folder whose tree outputs and names show: what all inputs have in common."""
    if len(inputs) == 1:
        return _whole(inputs[0])
    try:
        if len({places.is_far(name) for name in inputs}) > 1:
            raise ValueError
        shared = os.path.commonpath([os.path.dirname(_whole(name)) for name in inputs])
    except ValueError:
        raise UsageError(
            "the inputs lie on several drives and have no tree in common; "
            "take each drive by itself"
        ) from None
    return shared


def below(file: str, root: str) -> str:
    """The name of a file as seen from a root that it lies under, slashes as here."""
    return os.path.relpath(_whole(file), root)


def _whole(name: str) -> str:
    """A name from the root on; that of a distant place in the form of a path."""
    if not places.is_far(name):
        return os.path.abspath(name)
    scheme, path = name.split("://", 1)
    return os.path.normpath(os.path.join(os.sep, scheme, path.lstrip("/")))
