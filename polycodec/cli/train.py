# SPDX-License-Identifier: Apache-2.0
"""The command train: a codec from a config, its run's folder from the config."""

from __future__ import annotations

from typing import Annotated

import typer


def train(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="A YAML file, or say image/default."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="section.key=value", help="Replace its values."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
) -> None:
    """Train a codec; the run's folder is run.out of the config."""
    from polycodec.train.config import load_config

    checked = load_config(config, overrides or [])
    from polycodec.train.loop import Trainer

    Trainer(checked, resume=resume).train()
