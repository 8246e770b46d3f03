# SPDX-License-Identifier: Apache-2.0
"""From any exception to one line and an exit code.

    0 done   2 usage   3 input   4 bitstream   5 model   1 a bug   128 + a signal

Errors that polycodec raises on purpose carry their code (see errors.py). What the
machine refuses, memory, disk, files, is named here; everything else is a bug, says
so, and shows its trace with --debug.
"""

from __future__ import annotations

import errno
import re
import sys

from polycodec.errors import CodecError, InputError, ModelError, UsageError

INTERRUPTED = 130
MOST = 1000  # characters of a message

# Import name of what only an extra installs -> the extra.
_EXTRAS = {
    "lightning": "train",
    "tensorboard": "train",
    "bjontegaard": "eval",
    "matplotlib": "eval",
    "torchmetrics": "eval",
    "av": "eval",
}
# What torch, its libraries and the loader say where memory ends.
_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory"
    r"|failed to map segment|bad_alloc|can't start new thread|vector::_M_",
    re.IGNORECASE,
)
# Control characters, and those that turn the direction of what follows.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the message, one line, for ``error``."""
    code, message = _explain(error)
    message = printable(" ".join(message.split()))
    if len(message) > MOST:
        message = f"{message[: MOST - 300]} ... {message[-300:]}"
    return code, message


def printable(text: str) -> str:
    """One line for a terminal: names cannot move its cursor or colour it."""
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, CodecError):
        return error.exit_code, str(error)
    if _is_out_of_memory(error):
        return InputError.exit_code, (
            "out of memory; the input needs more than this process may take; use "
            "smaller tiles (--tile 512) or --device cpu, or raise its limit (ulimit -v)"
        )
    if isinstance(error, ModuleNotFoundError) and _extra(error):
        return UsageError.exit_code, (
            f"this command needs the package '{error.name}', which is not installed; "
            f"run pip install 'polycodec[{_extra(error)}]'"
        )
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        where = f"{error.filename}: " if error.filename else ""
        return InputError.exit_code, f"{where}{reason}; check the path and the disk"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted; nothing half-written is left"
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if place := _outside(error):
        return ModelError.exit_code, (
            f"the part in {place}, failed, {what}; it is not one of polycodec: correct "
            "it there; --debug shows the trace"
        )
    return 1, f"unexpected {what}; this is a bug; run again with --debug and report it"


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has a class of its own for the GPU and a plain RuntimeError for the CPU.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (
            isinstance(error, (RuntimeError, ImportError, OSError))
            and _MEMORY.search(str(error)) is not None
        )
    )


def _outside(error: BaseException) -> str:
    """File and line of the last frame of a part that is not the package's; or ""."""
    registry = sys.modules.get("polycodec.registry")  # there are no parts without it
    place, trace = "", error.__traceback__
    while registry is not None and trace is not None:
        if registry.is_outside(trace.tb_frame.f_globals.get("__name__", "")):
            place = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _extra(error: ModuleNotFoundError) -> str | None:
    return _EXTRAS.get((error.name or "").split(".")[0])
