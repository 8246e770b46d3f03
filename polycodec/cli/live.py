# SPDX-License-Identifier: Apache-2.0
"""Live speech over pipes: `encode - --live` and `decode - --live`.

arecord -t raw -f S16_LE -r 16000 | polycodec encode - --live -q 35 | ...
... | polycodec decode - --live | aplay -t raw -f S16_LE -r 16000
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from polycodec.codecs.files.options import spelt
from polycodec.errors import UsageError
from polycodec.plainjson import to_json

MODEL = "speech/live"
Live = Annotated[
    bool, typer.Option("--live", help="Packets of speech, from pipe to pipe.")
]
PacketFrames = Annotated[
    int,
    typer.Option(
        "--packet", metavar="N", help="Frames of a packet, 1 to 8, with --live."
    ),
]
LiveModel = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Of packets, with --live."),
]
_KNOWN = {"model", "checkpoint", "device", "quality"}


def encode(
    inputs: list[str],
    output: str | None,
    given: Mapping[str, Any],
    frames: int,
    as_json: bool,
) -> None:
    """Write packets of standard input's samples to standard output."""
    from polycodec.codecs.files.speech.live import encode_live

    codec, ends = _codec(inputs, output, given, _KNOWN), _ends()
    quality = given.get("quality", 50.0)
    _tell(encode_live(codec, *ends, quality=quality, frames=frames), as_json)


def decode(
    inputs: list[str], output: str | None, given: Mapping[str, Any], as_json: bool
) -> None:
    """Write samples of standard input's packets to standard output."""
    from polycodec.codecs.files.speech.live import decode_live

    codec = _codec(inputs, output, given, _KNOWN - {"quality"})
    _tell(decode_live(codec, *_ends()), as_json)


def _tell(said: Any, as_json: bool) -> None:
    text = to_json(said._asdict()) if as_json else said.line()
    print(text, file=sys.stderr)


def _codec(
    inputs: list[str], output: str | None, given: Mapping[str, Any], known: set[str]
) -> Any:
    if inputs != ["-"] or output not in (None, "-"):
        raise UsageError(
            "--live goes from pipe to pipe; expected - and no output; of and to files: "
            "< IN > OUT"
        )
    if others := sorted(set(given) - known):
        names = ", ".join(f"--{spelt(name)}" for name in others)
        raise UsageError(f"--live and {names} do not go together; leave one out")
    from polycodec.codecs import zoo

    name = given.get("model") or MODEL
    device = given.get("device", "auto")
    return zoo.load(name, device, checkpoint=given.get("checkpoint"))


def _ends() -> tuple[Any, Any]:
    return sys.stdin.buffer, sys.stdout.buffer
