# SPDX-License-Identifier: Apache-2.0
"""Do many pieces of work, tell how each went, and fail at the end, not at once.

stdout   one line (or JSON object) for each input that is done
stderr   a progress bar when a person watches; notes; failures, listed at the end
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import typer

from polycodec.cli.failure import explain
from polycodec.cli.paths import STREAM, Job
from polycodec.errors import CodecError, InputError, UsageError
from polycodec.progress import Tick, bar

Ends = str | BinaryIO
# Returns the line for people and the object for programs.
Work = Callable[[int, Tick], tuple[str, dict[str, Any]]]


def run(
    names: Sequence[str],
    work: Work,
    *,
    as_json: bool,
    verb: str,
    fatal: tuple[type[CodecError], ...] = (UsageError,),
    aside: bool = False,
) -> NoReturn:
    """Call ``work(k, tick)`` for every name; end the command with the exit code.

    The error of a single input is raised. Among many, failures are collected; those
    of a ``fatal`` kind end the run, because they would repeat for every input.
    ``aside``: stdout carries the data itself, so all is said on stderr.
    """
    failures: list[tuple[str, int, str]] = []
    with bar(len(names), verb) as step:
        for k, name in enumerate(names):
            try:
                line, values = work(k, step(name))
                text = json.dumps(values) if as_json else line
                _say(text, aside)
            except BrokenPipeError:
                raise
            except Exception as error:
                code, message = explain(error)
                if as_json:
                    said = {"input": name, "error": message, "exit_code": code}
                    _say(json.dumps(said), aside)
                if len(names) == 1 and isinstance(error, CodecError):
                    raise _named(error, name) from error
                if len(names) == 1 or isinstance(error, fatal):
                    raise
                failures.append((name, code, message))
    if not failures:
        raise typer.Exit(0)
    print(
        f"polycodec: error: {len(failures)} of {len(names)} inputs failed:",
        file=sys.stderr,
    )
    for name, _, message in failures:
        print(f"  {_prefix(name, message)}{message}", file=sys.stderr)
    raise typer.Exit(failures[0][1])


def convert(
    jobs: Sequence[Job],
    call: Callable[[Job, Ends, Ends, Tick], Any],
    *,
    as_json: bool,
    verb: str,
    force: bool,
    fatal: tuple[type[CodecError], ...] = (UsageError,),
) -> NoReturn:
    """Do every job by ``call(job, source, target, tick)``, which returns its result.

    Notes, and all that is said when stdout carries the file, go to stderr.
    """
    streams = jobs[0].output == STREAM
    if streams and sys.stdout.isatty():
        raise UsageError("standard output is a terminal; name a file with -o or use >")

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        result = _converted(jobs[k], call, force, tick)
        for note in result.notes:
            print(f"polycodec: {jobs[k].input}: {note}", file=sys.stderr)
        return result.line(), result.as_dict()

    names = [job.input for job in jobs]
    run(names, work, as_json=as_json, verb=verb, fatal=fatal, aside=streams)


def source_of(name: str) -> Ends:
    """A path, or standard input for "-"; InputError when there is no such file."""
    if name == STREAM:
        return sys.stdin.buffer
    if not os.path.exists(name):
        raise InputError(f"no such file: {name}; check the path")
    return name


def _converted(job: Job, call: Callable[..., Any], force: bool, tick: Tick) -> Any:
    """Do one job; a failure leaves no folder behind that was made for it."""
    from polycodec.atomic import check_target

    source = source_of(job.input)
    made = _make_folder(job.folder)
    try:
        if job.output == STREAM:
            result = call(job, source, sys.stdout.buffer, tick)
            sys.stdout.buffer.flush()
            return result
        check_target(job.output, force=force)
        return call(job, source, job.output, tick)
    except BaseException:
        _remove_folders(made)
        raise


def _say(text: str, aside: bool) -> None:
    # Looked up at each call: a bar on the same terminal stands in for the streams.
    print(text, file=sys.stderr if aside else sys.stdout, flush=True)


def _named(error: CodecError, name: str) -> CodecError:
    """Put the input's name into a message that does not say it."""
    if isinstance(error, UsageError):
        return error
    return type(error)(f"{_prefix(name, str(error))}{error}")


def _prefix(name: str, message: str) -> str:
    return "" if name in message or name == "-" else f"{name}: "


def _make_folder(folder: str | None) -> list[Path]:
    """Create ``folder`` with its parents; returns the new ones, deepest first."""
    if folder is None:
        return []
    path = Path(folder)
    new = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return new


def _remove_folders(made: list[Path]) -> None:
    for folder in made:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
