# SPDX-License-Identifier: Apache-2.0
"""Do many pieces of work, tell how each went, and fail at the end, not at once.

stdout   one line (or JSON object) for each input that is done
stderr   a progress bar when a person watches; notes; what is left out and why; of many
         inputs their total; failures, listed at the end
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import typer

from polycodec import places
from polycodec.cli import process
from polycodec.cli.failure import explain, printable
from polycodec.codecs.files.jobs import STREAM, Job, Plan
from polycodec.errors import CodecError, InputError, ModelError, UsageError
from polycodec.plainjson import to_json
from polycodec.progress import Tick, bar

Ends = str | BinaryIO
# Returns the line for people and the object for programs.
Work = Callable[[int, Tick], tuple[str, dict[str, Any]]]
_LISTED = 20  # files left out that are told one by one


def run(
    names: Sequence[str],
    work: Work,
    *,
    as_json: bool,
    verb: str,
    fatal: tuple[type[CodecError], ...] = (UsageError,),
    aside: bool = False,
    left: Mapping[str, str] | None = None,
    total: Callable[[], str] | None = None,
) -> NoReturn:
    """Call ``work(k, tick)`` for every name; end the command with the exit code.

    The error of a single input is raised. Among many, failures are collected; those
    of a ``fatal`` kind end the run, because they would repeat for every input.
    ``aside``: stdout carries the data itself, so all is said on stderr. ``left``: files
    that are left out, with the reasons; ``total`` sums up what was done.
    """
    tell_left(left or {}, as_json, aside)
    failures: list[tuple[str, int, str]] = []
    with bar(len(names), verb) as step:
        for k, name in enumerate(names):
            try:
                line, values = work(k, step(printable(name)))
                text = to_json(values) if as_json else line
                _say(text, aside)
            except BrokenPipeError:
                raise
            except KeyboardInterrupt as error:
                if error.args:  # what is kept, to go on with
                    print(f"polycodec: {printable(str(error))}", file=sys.stderr)
                raise
            except Exception as error:
                code, message = explain(error)
                if as_json:
                    said = {"input": name, "error": message, "exit_code": code}
                    _say(to_json(said), aside)
                if len(names) == 1 and isinstance(error, CodecError):
                    raise _named(error, name) from error
                if len(names) == 1 or isinstance(error, fatal):
                    raise
                failures.append((name, code, message))
    if total and len(names) > max(1, len(failures)) and not as_json:
        print(f"polycodec: {total()}", file=sys.stderr)
    if not failures:
        raise typer.Exit(0)
    print(
        f"polycodec: error: {len(failures)} of {len(names)} inputs failed:",
        file=sys.stderr,
    )
    for name, _, message in failures:
        print(f"  {printable(_prefix(name, message))}{message}", file=sys.stderr)
    raise typer.Exit(failures[0][1])


def convert(
    plan: Plan,
    call: Callable[[Job, Ends, Ends, Tick], Any],
    *,
    as_json: bool,
    verb: str,
    force: bool,
    skip: bool = False,
    fatal: tuple[type[CodecError], ...] = (UsageError,),
) -> NoReturn:
    """Do every job by ``call(job, source, target, tick)``, which returns its result.

    Notes, and all that is said when stdout carries the file, go to stderr. ``skip``:
    leave out jobs whose output is there.
    """
    plan = plan.resumed() if skip else plan
    jobs = plan.jobs
    streams = bool(jobs) and jobs[0].output == STREAM
    if streams and sys.stdout.isatty():
        raise UsageError("standard output is a terminal; name a file with -o or use >")
    sums, started = Counter[str](), time.monotonic()

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        job = jobs[k]
        result = _converted(job, call, force, tick, plan.whole)
        for note in result.notes:
            print(printable(f"polycodec: {job.input}: {note}"), file=sys.stderr)
        sums.update(
            files=1, before=places.size(job.input), after=places.size(job.output)
        )
        return printable(result.line()), result.as_dict()

    def total() -> str:
        from polycodec.codecs.files.results import readable

        share = 100 * sums["after"] / max(1, sums["before"])
        spent = time.monotonic() - started
        return (
            f"{sums['files']} of {len(jobs)} files  {readable(sums['before'])} -> "
            f"{readable(sums['after'])}  {share:.1f} %  {spent:.1f} s"
        )

    names = [job.input for job in jobs]
    run(
        names,
        work,
        as_json=as_json,
        verb=verb,
        fatal=fatal,
        aside=streams,
        left=plan.left,
        total=total,
    )


def encode(
    plan: Plan,
    call: Callable[[Job, Ends, Ends, Tick], Any],
    *,
    as_json: bool,
    force: bool,
    skip: bool,
) -> NoReturn:
    """`convert` where one model is for all: without it nothing can be done."""
    fatal = UsageError, ModelError
    convert(
        plan,
        call,
        as_json=as_json,
        verb="encoding",
        force=force,
        skip=skip,
        fatal=fatal,
    )


def source_of(name: str, whole: bool = False) -> Ends:
    """A path, or a binary file that can seek: of standard input for "-", of a pipe.

    InputError when there is no such file, or it is a folder: one with nothing to do,
    unless folders are inputs as a ``whole``.
    """
    if name == STREAM:
        _check_open(0, "input")
        return sys.stdin.buffer
    if places.is_far(name):
        return name
    if not os.path.exists(name):
        raise InputError(f"no such file: {name}; check the path")
    if os.path.isfile(name):
        return name
    if os.path.isdir(name) and not whole:
        raise InputError(f"nothing to do in the folder {name}; check the path")
    from polycodec.codecs.files.sources import seekable

    return seekable(name)  # type: ignore[return-value]  # what a path gives


def _converted(
    job: Job, call: Callable[..., Any], force: bool, tick: Tick, whole: bool
) -> Any:
    """Do one job; a failure leaves no folder behind that was made for it."""
    source = source_of(job.input, whole)
    made = _make_folder(job.folder)
    try:
        with _target_of(job, force) as target:
            result = call(job, source, target, tick)
    except BaseException:
        _remove_folders(made)
        raise
    result.input, result.output = job.input, job.output
    return result


@contextlib.contextmanager
def _target_of(job: Job, force: bool) -> Iterator[Ends]:
    """Where a job writes: a path that is free, or a stream, a pipe, a device."""
    from polycodec.atomic import check_target, is_plain

    if job.output == STREAM:
        _check_open(1, "output")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif places.is_far(job.output):
        check_target(job.output, force=force)
        yield job.output
    elif os.path.exists(job.output) and not os.path.isfile(job.output):
        check_target(job.output)
        with open(job.output, "wb") as target:
            yield target
    else:
        if not job.typed and not force and is_plain(job.output):
            raise InputError(
                f"{job.output} exists already; name another output with -o, or leave "
                "such files out with --skip-existing"
            )
        check_target(job.output, force=force)
        yield job.output


def _check_open(number: int, what: str) -> None:
    if number in process.closed:
        raise InputError(f"standard {what} is closed; name a file")


def tell_left(left: Mapping[str, str], as_json: bool, aside: bool) -> None:
    """Say what is left out: file by file, or of very many how many of a kind."""
    if as_json:
        for name, reason in left.items():
            _say(to_json({"input": name, "left_out": reason}), aside)
        return
    lines = [f"left out {name}: {reason}" for name, reason in left.items()]
    if len(left) > _LISTED:
        kinds = Counter((Path(n).suffix.lower(), reason) for n, reason in left.items())
        lines = [
            f"left out {count} files {suffix or 'without a suffix'}: {reason}"
            for (suffix, reason), count in kinds.most_common()
        ]
    for line in lines:
        print(f"polycodec: {printable(line)}", file=sys.stderr)


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
