# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error when a person watches, silence otherwise.

with bar(len(names), "encoding") as step:
    for name in names:
        tick = step(name)           the bar moves on to the next piece of work
        tick(3, 10)                 3 of 10 parts of this piece are done
        tick.say("0.91 bpp")        what there is to say of it
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

MANY = 12  # parts of a piece from which their pace is shown


class Tick:
    """Told (parts done, parts in all) of the current piece; here nobody watches."""

    def __call__(self, part: int, parts: int) -> None:
        return

    def say(self, text: str) -> None:
        """Show what there is to say of the piece while it goes on."""
        return


@contextlib.contextmanager
def bar(
    total: int, verb: str, *, quiet: bool = False
) -> Iterator[Callable[[str], Tick]]:
    """Yield ``step(name)``, which announces one of ``total`` pieces of work."""
    if quiet or not sys.stderr.isatty():
        yield lambda name: Tick()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # A captured stdout must get its lines itself, not through the bar's console.
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as shown:
        task = shown.add_task(verb, total=total)
        done = -1

        def step(name: str) -> Tick:
            nonlocal done
            done += 1
            shown.update(task, description=f"{verb} {name}", completed=done)
            return Shown(name)

        class Shown(Tick):
            def __init__(self, name: str) -> None:
                self.name, self.before, self.begun = name, done, time.monotonic()

            def __call__(self, part: int, parts: int) -> None:
                shown.update(task, completed=self.before + part / max(parts, 1))
                if parts > MANY:  # frames, seconds: their pace says more
                    pace = part / max(time.monotonic() - self.begun, 1e-3)
                    self.say(f"{part}/{parts}, {pace:.1f} a second")

            def say(self, text: str) -> None:
                shown.update(task, description=f"{verb} {self.name}  {text}")

        yield step
