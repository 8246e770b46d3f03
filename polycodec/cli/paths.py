# SPDX-License-Identifier: Apache-2.0
"""Which files are read and where the results go.

    photo.png               -> photo.plc          beside it
    photo.png  -o out.plc   -> out.plc
    photo.png  -o out/      -> out/photo.plc      out/ exists
    photos/    -o out       -> out/2019/a.plc     the tree of photos/ mirrored
    a/1.png b/1.png -o out  -> out/a/1.plc, out/b/1.plc
    -                       -> -                  standard input and output

Two inputs of one stem (1.png, 1.jpg) keep their whole name: 1.png.plc, 1.jpg.plc.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from polycodec.errors import InputError, UsageError

STREAM = "-"
Suffix = str | Callable[[str], str]


@dataclass(frozen=True)
class Job:
    """One input and the name of its output; "-" stands for the standard streams.

    ``folder``: created before the output is written, None when it must be there.
    """

    input: str
    output: str
    folder: str | None = None


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    suffix: Suffix,
    accept: Collection[str],
) -> list[Job]:
    """Pair inputs with outputs. ``suffix``: of outputs; ``accept``: of inputs.

    A suffix may depend on the input: then it is a function of its path.

    Folders are searched for files whose suffix is in ``accept``; files that are
    named are taken whatever their name is.
    """
    if STREAM in inputs or output == STREAM:
        return [_stream_job(inputs, output)]
    files: list[Path] = []
    for name in inputs:
        files += _expand(Path(name), accept)
    files = list(dict.fromkeys(files))
    suffixes = [suffix if isinstance(suffix, str) else suffix(str(f)) for f in files]
    if output is None:
        targets = _targets(files, suffixes)
        return [Job(str(i), str(t)) for i, t in zip(files, targets, strict=True)]
    folder = Path(output)
    if len(inputs) == 1 and files == [Path(inputs[0])]:
        if not folder.is_dir() and not output.endswith(("/", os.sep)):
            return [Job(str(files[0]), output)]
        return [Job(str(files[0]), str(folder / f"{files[0].stem}{suffixes[0]}"))]
    return _mirror(files, _root(inputs), folder, suffixes)


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
    count = Counter(targets)
    return [
        target if count[target] == 1 else file.with_name(file.name + suffix)
        for (file, suffix), target in zip(pairs, targets, strict=True)
    ]


def _root(inputs: Sequence[str]) -> str:
    """Return the folder whose tree is mirrored: what all inputs have in common."""
    if len(inputs) == 1:
        return os.path.abspath(inputs[0])
    try:
        return os.path.commonpath(
            [os.path.dirname(os.path.abspath(name)) for name in inputs]
        )
    except ValueError:
        raise UsageError(
            "the inputs lie on several drives and have no tree in common; "
            "encode each drive by itself"
        ) from None


def _stream_job(inputs: Sequence[str], output: str | None) -> Job:
    if len(inputs) != 1:
        raise UsageError(
            f"'-' is one stream; found {len(inputs)} inputs; give one input, or a "
            "folder with -o"
        )
    if inputs[0] != STREAM and os.path.isdir(inputs[0]):
        raise UsageError("a folder does not fit into one stream; name a folder with -o")
    return Job(inputs[0], output or STREAM)


def _expand(path: Path, accept: Collection[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in accept
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise InputError(
            f"nothing to do in the folder {path}; expected files ending in "
            f"{', '.join(sorted(accept))}; check the path"
        )
    return found
