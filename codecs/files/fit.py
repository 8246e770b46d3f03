# SPDX-License-Identifier: Apache-2.0
"""Clips and sounds by models that are fitted: what is asked of it, and what is kept.

    clip.plc.fit0, clip.plc.fit1 …   checkpoints of the networks, till the file is whole

The first Ctrl-C ends the fit, and the file is written with what it has; the checkpoints
stay then, and ``--resume`` goes on from them and replaces the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from polycodec.atomic import check_target
from polycodec.codecs.files.ends import Ends, Progress, Target
from polycodec.codecs.files.options import FileOptions, FitOptions, spelt
from polycodec.codecs.files.video.damage import ranges
from polycodec.codecs.fitting.plan import Plan, Report, checkpoints
from polycodec.errors import InputError, UsageError
from polycodec.places import is_far
from polycodec.progress import Tick

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

logger = logging.getLogger(__name__)
Options = TypeVar("Options", bound=FileOptions)
ONLY_FITTED = ("effort", "time_budget", "resume")


def check(codec: Codec, options: FitOptions) -> None:
    """UsageError for options of fits where the codec has none."""
    given = [name for name in ONLY_FITTED if getattr(options, name)]
    if given and not codec.fitted:
        raise UsageError(
            f"{spelt(given[0])} is for models that are fitted to a "
            f"signal, such as video/nerv-small; '{codec.name}' is not; leave it out"
        )


def going_on(target: Target, options: Options) -> Options:
    """Options that replace the file of a stopped fit, if they ask to go on with it."""
    if getattr(options, "resume", False):
        kept = _kept(target)
        if kept and checkpoints(kept):
            return replace(options, force=True)
        if isinstance(target, (str, os.PathLike)):
            check_target(target, force=options.force)
    return options


def plan_of(ends: Ends[Any], items: int, size: int | None) -> Plan:
    """How a signal of ``items`` is fitted; ``size``: bytes of all chunks at most.

    InputError where a stopped fit would be lost.
    """
    options: FitOptions = ends.options
    kept, notes = _kept(ends.target), []
    if options.resume and kept is None:
        raise UsageError("resume needs an output on this machine; name it with -o")
    found = checkpoints(kept) if kept else []
    if found and not options.resume:
        raise InputError(
            f"a fit was stopped here; --resume goes on with it; delete {kept}* to "
            "begin anew"
        )
    if options.resume and not found:
        notes.append("no fit was kept to go on with; it began anew")
    return Plan(
        seconds=options.time_budget,
        steps=options.effort or None,
        bytes=size,
        items=items,
        kept=kept,
        resume=options.resume,
        tell=_telling(ends.progress),
        notes=notes,
    )


def notes_of(
    plan: Plan, what: str, length: int, total: int, parts: int = 1
) -> list[str]:
    """What is to be said of a fit that ended, of ``total`` frames or seconds.

    A chunk has ``length`` of them, and as many networks as ``parts``.
    """
    chunks = sorted({number // parts for number in plan.unbegun})
    if not chunks:
        return plan.notes
    left = ranges(range(k * length, min((k + 1) * length, total)) for k in chunks)
    return [*plan.notes, f"{what} {left} were not fitted; --resume goes on"]


@contextlib.contextmanager
def keeping(plan: Plan) -> Iterator[None]:
    """Within, who ends the process is told what is left of a fit, to go on with."""
    try:
        yield
    except KeyboardInterrupt as error:
        if plan.kept and (found := checkpoints(plan.kept)):
            error.args = (f"{found[0]} keeps the fit, --resume goes on",)
        raise


def forget(plan: Plan | None) -> None:
    """Delete the checkpoints of a fit that came to its end."""
    if plan is not None and plan.kept is not None and not plan.stopped.is_set():
        for path in checkpoints(plan.kept):
            path.unlink(missing_ok=True)


def _kept(target: Target) -> Path | None:
    """What checkpoints of a target are named by; None: they cannot be kept."""
    if not isinstance(target, (str, os.PathLike)) or is_far(target):
        return None
    return Path(f"{os.fspath(target)}.fit")


def _telling(progress: Progress | None) -> Callable[[Report], None]:
    """Tell who watches, and the log, where a fit stands."""

    def tell(report: Report) -> None:
        logger.info("%s", report)
        if isinstance(progress, Tick):
            progress.say(str(report))

    return tell
