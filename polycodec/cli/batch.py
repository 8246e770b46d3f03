# SPDX-License-Identifier: Apache-2.0
"""Do many pieces of work, tell how each went, and fail at the end, not at once.

stdout   one line (or JSON object) for each input that is done
stderr   a progress bar when a person watches; failures, listed at the end
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from polycodec.cli.failure import explain
from polycodec.errors import CodecError, UsageError
from polycodec.progress import Tick, bar

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
) -> int:
    """Call ``work(k, tick)`` for every name; return the exit code.

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
        return 0
    print(
        f"polycodec: error: {len(failures)} of {len(names)} inputs failed:",
        file=sys.stderr,
    )
    for name, _, message in failures:
        print(f"  {_prefix(name, message)}{message}", file=sys.stderr)
    return failures[0][1]


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
