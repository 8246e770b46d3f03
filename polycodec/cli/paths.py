# SPDX-License-Identifier: Apache-2.0
"""Which files are read and where the results go.

    photo.png               -> photo.plc          beside it
    photo.png  -o out.plc   -> out.plc
    photo.png  -o out/      -> out/photo.plc      out/ exists
    photos/    -o out       -> out/2019/a.plc     the tree of photos/ mirrored
    a/1.png b/1.png -o out  -> out/a/1.plc, out/b/1.plc
    -                       -> -                  standard input and output

Two inputs of one stem (1.png, 1.jpg) keep their whole name: 1.png.plc, 1.jpg.plc.
No output is another job's output, and none is an input. What a folder holds and is not
taken is told with its reason.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polycodec.codecs.files.folders import Taken, expand, root_of
from polycodec.errors import InputError, UsageError

STREAM = "-"
_INPUT = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
Suffix = str | Callable[[str], str]


@dataclass(frozen=True)
class Job:
    """One input and the name of its output; "-" stands for the standard streams.

    ``folder``: created before the output is written, None when it must be there.
    ``typed``: somebody named this very output.
    """

    input: str
    output: str
    folder: str | None = None
    typed: bool = False


@dataclass
class Plan:
    """Jobs, and files of folders that are none: name -> reason."""

    jobs: list[Job]
    left: dict[str, str] = field(default_factory=dict)
    whole: bool = False  # folders are inputs themselves


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    suffix: Suffix,
    refuse: Taken,
    made: Callable[[str], bool] = lambda name: False,
    whole: bool = False,
) -> Plan:
    """Pair inputs with outputs. ``suffix``: of outputs, or a function of the input.

    ``refuse``: why a file of a folder is not taken, or None; files that are named are
    taken whatever they are. ``made``: whether a name is one that outputs have.
    ``whole``: folders are inputs themselves.
    """
    inputs = [STREAM if name in _INPUT else name for name in inputs]
    output = STREAM if output in _OUTPUT else output
    if output is None:
        _check_last(inputs, made)
    if STREAM in inputs or output == STREAM:
        return Plan([_stream_job(inputs, output)])
    files, left = expand(inputs, refuse, whole)
    suffixes = [suffix if isinstance(suffix, str) else suffix(str(f)) for f in files]
    jobs = _jobs(inputs, files, output, suffixes)
    _check_apart(jobs)
    return Plan(jobs, left, whole)


def _jobs(
    inputs: Sequence[str], files: list[Path], output: str | None, suffixes: list[str]
) -> list[Job]:
    if output is None:
        targets = _targets(files, suffixes)
        return [Job(str(i), str(t)) for i, t in zip(files, targets, strict=True)]
    folder = Path(output)
    if len(inputs) == 1 and files == [Path(inputs[0])]:
        if not folder.is_dir() and not output.endswith(("/", os.sep)):
            return [Job(str(files[0]), output, typed=True)]
        return [Job(str(files[0]), str(folder / f"{files[0].stem}{suffixes[0]}"))]
    return _mirror(files, root_of(inputs), folder, suffixes)


def _mirror(
    files: list[Path], root: str, folder: Path, suffixes: list[str]
) -> list[Job]:
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"{folder} is a file; expected a folder for {len(files)} outputs; "
            "name a folder with -o"
        )
    if not folder.absolute().parent.is_dir():
        raise InputError(
            f"cannot write into {folder}; the folder {folder.parent} does not exist; "
            "create it first"
        )
    relative = [Path(os.path.relpath(os.path.abspath(f), root)) for f in files]
    targets = [folder / target for target in _targets(relative, suffixes)]
    return [
        Job(str(i), str(t), str(t.parent)) for i, t in zip(files, targets, strict=True)
    ]


def _targets(files: list[Path], suffixes: list[str]) -> list[Path]:
    """Replace suffixes; files that would meet keep their own and get one more."""
    pairs = list(zip(files, suffixes, strict=True))
    targets = [file.with_name(file.stem + suffix) for file, suffix in pairs]
    count = Counter(_place(target) for target in targets)
    return [
        target if count[_place(target)] == 1 else file.with_name(file.name + suffix)
        for (file, suffix), target in zip(pairs, targets, strict=True)
    ]


def _place(path: str | Path) -> str:
    """Where a file lies, the same for all its names."""
    place = os.path.realpath(path)
    # Their file systems take names of other capitals for the same.
    return place.casefold() if sys.platform in ("darwin", "win32") else place


def _check_apart(jobs: Sequence[Job]) -> None:
    """Refuse outputs that would meet, or that would replace an input."""
    inputs = {_place(job.input): job.input for job in jobs}
    outputs: dict[str, str] = {}
    for job in jobs:
        place = _place(job.output)
        if place in inputs:
            raise UsageError(
                f"{job.output} is an input, and would be replaced by what becomes of "
                f"{job.input}; name another output with -o"
            )
        if other := outputs.get(place):
            raise UsageError(
                f"{other} and {job.input} would both become {job.output}; rename one, "
                "or do them apart"
            )
        outputs[place] = job.input


def _check_last(inputs: Sequence[str], made: Callable[[str], bool]) -> None:
    """Refuse `encode photo.png out.plc`, which elsewhere means -o."""
    if len(inputs) < 2 or os.path.isdir(last := inputs[-1]) or last == STREAM:
        return
    missing = not os.path.exists(last)
    if made(last) or (missing and len(inputs) == 2):
        what = "no such file" if missing else "that is no input"
        raise UsageError(f"{last}: {what}; did you mean -o {last}?")


def _stream_job(inputs: Sequence[str], output: str | None) -> Job:
    if len(inputs) != 1:
        raise UsageError(
            f"'-' is one stream; found {len(inputs)} inputs; give one input, or a "
            "folder with -o"
        )
    if inputs[0] != STREAM and os.path.isdir(inputs[0]):
        raise UsageError("a folder does not fit into one stream; name a folder with -o")
    return Job(inputs[0], output or STREAM, typed=True)
