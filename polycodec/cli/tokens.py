# SPDX-License-Identifier: Apache-2.0
"""The command tokens: sound to the numbers that its codec knows, and back.

    polycodec tokens talk.flac                 ->  talk.npz
    polycodec tokens talk.plc -o talk.npy      ->  codes alone
    polycodec tokens talk.npz                  ->  talk.wav
    polycodec tokens talk.npz -o talk.plc

Fields of the files: codecs/files/tokens/file.py.
"""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from polycodec.cli.options import AsJson, Channels, Checkpoint, Device, Force, Model
from polycodec.cli.values import check_device, check_quality
from polycodec.errors import InputError


def tokens(
    input: Annotated[
        str, typer.Argument(metavar="IN", help="Sound, .plc, or tokens (.npz).")
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The suffix decides."),
    ] = None,
    model: Model = None,
    quality: Annotated[
        float,
        typer.Option("--quality", "-q", metavar="0..100", help="Levels; all: 100."),
    ] = 100.0,
    channels: Channels = "mix",
    device: Device = "auto",
    checkpoint: Checkpoint = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn sound into an array of tokens, and tokens back into sound."""
    check_quality(quality)
    check_device(device)
    if not os.path.exists(input):
        raise InputError(f"no such file: {input}; check the path")
    from polycodec.codecs.files.tokens import convert as api_tokens

    result = api_tokens.convert(
        input,
        output,
        model=model,
        quality=quality,
        channels=channels,
        device=device,
        checkpoint=checkpoint,
        force=force,
    )
    if as_json:
        print(json.dumps(vars(result)))
        return
    shape = f"{result.channels} x {result.levels} x {result.frames} tokens"
    print(
        f"{result.input} -> {result.output}  {shape}, {result.frame_rate:g} frames a "
        f"second of {result.model} {result.digest}  {result.seconds:.1f} s"
    )
