# SPDX-License-Identifier: Apache-2.0
"""Clips and sounds by models that are fitted: what is asked of it, and what is kept.

    clip.plc.fit0, clip.plc.fit1 …   checkpoints of the networks, till the file is whole

The first Ctrl-C ends the fit, and the file is written with what it has; the checkpoints
stay then, and ``--resume`` goes on from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polycodec.codecs.base import Codec
from polycodec.codecs.files.ends import Ends, Progress
from polycodec.codecs.files.options import FitOptions, spelt
from polycodec.codecs.fitting.plan import Plan, Report
from polycodec.errors import UsageError
from polycodec.places import is_far
from polycodec.progress import Tick

logger = logging.getLogger(__name__)
ONLY_FITTED = ("effort", "time_budget", "resume")


def check(codec: Codec, options: FitOptions) -> None:
    """UsageError for options of fits where the codec has none."""
    given = [name for name in ONLY_FITTED if getattr(options, name)]
    if given and not codec.fitted:
        raise UsageError(
            f"{spelt(given[0])} is for models that are fitted to a "
            f"signal, such as video/nerv-small; '{codec.name}' is not; leave it out"
        )


def plan_of(ends: Ends[Any], items: int, size: int | None) -> Plan:
    """How a signal of ``items`` is fitted; ``size``: bytes of all chunks at most."""
    options: FitOptions = ends.options
    kept = None
    far = is_far(ends.target)
    if isinstance(ends.target, (str, os.PathLike)) and not far:
        kept = Path(f"{os.fspath(ends.target)}.fit")
    if options.resume and kept is None:
        raise UsageError("resume needs an output on this machine; name it with -o")
    return Plan(
        seconds=options.time_budget,
        steps=options.effort or None,
        bytes=size,
        items=items,
        kept=kept,
        resume=options.resume,
        tell=_telling(ends.progress),
    )


def forget(plan: Plan | None) -> None:
    """Delete the checkpoints of a fit that came to its end."""
    if plan is not None and plan.kept is not None and not plan.stopped.is_set():
        for path in plan.kept.parent.glob(f"{_escaped(plan.kept.name)}*"):
            if path.name.removeprefix(plan.kept.name).isdigit():
                path.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _telling(progress: Progress | None) -> Callable[[Report], None]:
    """Tell who watches, and the log, where a fit stands."""

    def tell(report: Report) -> None:
        logger.info("%s", report)
        if isinstance(progress, Tick):
            progress.say(str(report))

    return tell
