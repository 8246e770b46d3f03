# SPDX-License-Identifier: Apache-2.0
"""The command tokens: speech to the numbers that its codec knows, and back.

    polycodec tokens talk.flac                 ->  talk.npz
    polycodec tokens talk.plc -o talk.npy      ->  codes alone
    polycodec tokens talk.npz                  ->  talk.wav
    polycodec tokens talk.npz -o talk.plc

Fields of the files: codecs/files/tokens/file.py.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from polycodec.cli.batch import source_of
from polycodec.cli.options import AsJson, flags, values_of
from polycodec.codecs.files.options import TokenOptions


@flags(TokenOptions)
def tokens(
    input: Annotated[
        str, typer.Argument(metavar="IN", help="Speech, .plc, or tokens (.npz).")
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The suffix decides."),
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Turn speech into an array of tokens, and tokens back into speech."""
    given = values_of(options, TokenOptions)
    source = source_of(input)
    from polycodec.codecs.files.tokens.convert import convert

    result = convert(source, output, **given)
    print(json.dumps(result.as_dict()) if as_json else result.line())
