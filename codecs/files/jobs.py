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
taken is told with its reason. Distant places (s3://, `polycodec/places.py`) stand for
folders and files like others; of what lies in their folders the names are read, and of
`.plc` files to be decoded the first bytes.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polycodec import places
from polycodec.codecs.files.folders import Taken, below, expand, root_of
from polycodec.codecs.files.kinds import (
    NO_SIGNAL,
    is_plc,
    kind_named,
    kind_of,
    kind_writing,
    recognised,
    stored_kind,
)
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

    def resumed(self) -> Plan:
        """The plan without jobs whose output is there."""
        done = places.there(job.output for job in self.jobs)
        left = {
            job.input: f"{job.output} exists already"
            for job in self.jobs
            if job.output in done
        }
        jobs = [job for job in self.jobs if job.output not in done]
        return Plan(jobs, self.left | left, self.whole)


def encoding(
    inputs: Sequence[str],
    output: str | None,
    *,
    whole: bool = False,
    only: str | None = None,
) -> Plan:
    """Plan what is encoded: signals that are named or lie in folders.

    ``only``: of folders those of that kind.
    """
    none = f"no {only}" if only else "no image, no video and no speech"

    def refuse(path: str) -> str | None:
        far = places.is_far(path)
        if is_plc(path) if far else stored_kind(path) is not None:
            return "a .plc file already"
        fits = recognised(path) and (only is None or kind_of(path) == only)
        return None if fits else none

    return plan(inputs, output, suffix=".plc", refuse=refuse, made=is_plc, whole=whole)


def decoding(
    inputs: Sequence[str], output: str | None, *, format: str | None = None
) -> Plan:
    """Plan what is decoded: ``.plc`` files, by default to what their kind is kept as.

    ``format``: in place of it; UsageError for one that nothing is written as.
    """
    writes = kind_writing(f".{format}") if format else None
    if format and writes is None:
        raise UsageError(
            f"no image, video or speech is written as '{format}'; see the README"
        )

    stored = functools.cache(stored_kind)  # a distant file is read for it

    def suffix(path: str) -> str:
        kind = kind_named(stored(path) or "image")
        return f".{format}" if kind.name == writes else kind.decoded

    def refuse(path: str) -> str | None:
        if (kind := stored(path)) in NO_SIGNAL:
            return NO_SIGNAL[kind]
        return None if is_plc(path) else "not a .plc file"

    def made(name: str) -> bool:
        return not is_plc(name) and kind_writing(name) is not None

    return plan(inputs, output, suffix=suffix, refuse=refuse, made=made)


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
    if output == "":
        raise UsageError("the output's name is empty; expected a file, a folder, or -")
    inputs = [STREAM if name in _INPUT else name for name in inputs]
    output = STREAM if output in _OUTPUT else output
    if output is None:
        _check_last(inputs, made)
    if STREAM in inputs or output == STREAM:
        return Plan([_stream_job(inputs, output)])
    files, left = expand(inputs, refuse, whole)
    suffixes = [suffix if isinstance(suffix, str) else suffix(f) for f in files]
    jobs = _jobs(inputs, files, output, suffixes)
    _check_apart(jobs)
    return Plan(jobs, left, whole)


def _jobs(
    inputs: Sequence[str], files: list[str], output: str | None, suffixes: list[str]
) -> list[Job]:
    if output is None:
        targets = _targets(files, suffixes)
        return [Job(i, t) for i, t in zip(files, targets, strict=True)]
    if len(inputs) == 1 and [_place(f) for f in files] == [_place(inputs[0])]:
        if not output.endswith(("/", os.sep)) and not places.is_folder(output):
            return [Job(files[0], output, typed=True)]
        stem = os.path.splitext(os.path.basename(files[0]))[0]
        return [Job(files[0], places.join(output, stem + suffixes[0]))]
    if not places.is_far(output):
        _check_folder(Path(output), files)
    root = root_of(inputs)
    targets = _targets([below(file, root) for file in files], suffixes)
    targets = [places.join(output, target) for target in targets]
    made = [None if places.is_far(t) else os.path.dirname(t) for t in targets]
    return [Job(*job) for job in zip(files, targets, made, strict=True)]


def _check_folder(folder: Path, files: list[str]) -> None:
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


def _targets(files: list[str], suffixes: list[str]) -> list[str]:
    """Replace suffixes; files that would meet keep their own and get one more."""
    pairs = list(zip(files, suffixes, strict=True))
    targets = [os.path.splitext(file)[0] + suffix for file, suffix in pairs]
    count = Counter(_place(target) for target in targets)
    return [
        target if count[_place(target)] == 1 else file + suffix
        for (file, suffix), target in zip(pairs, targets, strict=True)
    ]


def _place(path: str) -> str:
    """Where a file lies, the same for all its names."""
    if places.is_far(path):
        return path
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
    if len(inputs) < 2 or places.is_folder(last := inputs[-1]) or last == STREAM:
        return
    missing = not places.exists(last)
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
