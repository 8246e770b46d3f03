# SPDX-License-Identifier: Apache-2.0
"""Names of the members of a set: paths with / between parts, inside the set only.

problem_of("icons/a.png")     None
problem_of("../a.png")        "it has the part '..'"
stored(names)                 one behind the other, a zero byte after each, UTF-8

A name is told as it was given, in Unicode's form NFC: systems that keep another form
and systems that compare bytes find the same member by it.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence

from polycodec.errors import BitstreamError, InputError

MOST = 4096  # BITSTREAM: bytes of a name
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def normal(name: str) -> str:
    """The form in which a name is stored."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def problem_of(name: str) -> str | None:
    """Why a name cannot stand in a set; None if it can."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is no Unicode text"
    if size > MOST:
        return f"it has {size} bytes; expected at most {MOST}"
    if normal(name) != name:
        return "it is not in Unicode's form NFC"
    if _CONTROL.search(name):
        return "it has control characters"
    if "\\" in name or _DRIVE.match(name):
        return "it has a backslash or a drive; expected / between parts"
    wrong = next((part for part in name.split("/") if part in ("", ".", "..")), None)
    return None if wrong is None else f"it has the part '{wrong}'"


def twice(names: Iterable[str]) -> str | None:
    """The first name that is there a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def meeting(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that some file systems take for one: capitals do not count."""
    seen: dict[str, str] = {}
    pairs = []
    for name in names:
        first = seen.setdefault(normal(name.casefold()), name)
        if first is not name:
            pairs.append((first, name))
    return pairs


def stored(names: Iterable[str]) -> bytes:
    """The record `names`; InputError for one that cannot stand in a set."""
    listed = list(names)
    for name in listed:
        if problem := problem_of(name):
            raise InputError(
                f"{name!r} cannot be the name of a member; {problem}; rename the file"
            )
    if (again := twice(listed)) is not None:
        raise InputError(f"two members are called '{again}'; rename one, or leave it")
    return "".join(f"{name}\0" for name in listed).encode()


def read(data: bytes, count: int) -> list[str]:
    """The ``count`` names of a record; BitstreamError for what `stored` would not."""
    found = data.count(b"\0")
    if found != count or not data.endswith(b"\0"):
        raise BitstreamError(f"the set has {count} members and {found} names")
    try:
        names = data[:-1].decode("utf-8").split("\0")
    except UnicodeDecodeError as error:
        raise BitstreamError(f"the names are no UTF-8; {error}") from error
    for name in names:
        if problem := problem_of(name):
            raise BitstreamError(f"a member is called {name!r}; {problem}")
    if (again := twice(names)) is not None:
        raise BitstreamError(f"two members are called '{again}'")
    return names


def chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """Names that are or match one of ``only``, all if there is none; InputError.

    A pattern is a shell's, whose * also takes what lies in folders; what is a member's
    name is no pattern.
    """
    if not only:
        return list(names)
    wanted: set[str] = set()
    known = set(names)
    for pattern in map(normal, only):
        found = [pattern] if pattern in known else []
        found = found or [n for n in names if fnmatch.fnmatchcase(n, pattern)]
        if not found:
            near = difflib.get_close_matches(pattern, names[:10000], n=3, cutoff=0)
            raise InputError(
                f"no member is called '{pattern}'; nearest: {', '.join(near)}"
            )
        wanted.update(found)
    return [name for name in names if name in wanted]


def few(listed: Sequence[str]) -> str:
    """The first of many names, for a message."""
    more = ", ..." if len(listed) > 8 else ""
    return ", ".join(repr(name) for name in listed[:8]) + more
