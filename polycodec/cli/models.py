# SPDX-License-Identifier: Apache-2.0
"""The command models: what ships, what this user installed, and exported runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from polycodec.cli.options import AsJson


def models(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Folders of exported runs, listed too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that ship with the package, are installed, or lie in RUN."""
    from polycodec.cli.card import model_card
    from polycodec.codecs import zoo

    cards = zoo.models() + [zoo.card_of_run(run) for run in runs or []]
    if as_json:
        print(json.dumps(cards, indent=2))
    elif cards:
        print("\n\n".join(model_card(values) for values in cards))
    else:
        print("no weights ship with this build; use encode --checkpoint RUN")
