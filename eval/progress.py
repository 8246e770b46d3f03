# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error when a person watches, silence otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(total: int, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield ``step(text)``: announces one of ``total`` pieces of work."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda text: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("measuring", total=total)
        started = False

        def step(text: str) -> None:
            nonlocal started
            shown.update(task, description=text, advance=1 if started else 0)
            started = True

        yield step
        shown.update(task, completed=total)
