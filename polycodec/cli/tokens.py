# SPDX-License-Identifier: Apache-2.0
"""The command tokens: signals to the numbers that their codecs know, and back.

    polycodec tokens talk.flac                 ->  talk.npz
    polycodec tokens talk.plc -o talk.npy      ->  codes alone
    polycodec tokens talks/ -o tokens          ->  the tree of talks/, in tokens/
    polycodec tokens talk.npz                  ->  talk.wav
    polycodec tokens tokens/ -o talks          ->  and a folder of them
    polycodec tokens talk.npz -o talk.plc
    polycodec tokens photo.png -m MODEL        ->  photo.npz, and back to photo.png
    polycodec tokens talk.flac --continuous    ->  talk.npz, latents, and back

Fields of the files: docs/tokens.md.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from polycodec import places
from polycodec.cli import batch
from polycodec.cli.options import AsJson, Inputs, Output, SkipExisting, flags, values_of
from polycodec.codecs.files.folders import Taken, expand
from polycodec.codecs.files.jobs import Job, plan
from polycodec.codecs.files.kinds import kind_of, recognised, stored_kind
from polycodec.codecs.files.loader import Loader
from polycodec.codecs.files.options import ConvertOptions
from polycodec.errors import ModelError, UsageError
from polycodec.progress import Tick


@flags(ConvertOptions)
def tokens(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Turn speech or images into arrays of tokens, and tokens back into signals.

    Images need a model of codebooks for them: `--model`, or `--checkpoint`.
    """
    given = values_of(options, ConvertOptions)
    refuse = _taken(inputs, _kinds(options))
    planned = plan(inputs, output, suffix=_suffix, refuse=refuse, made=_is_tokens)

    loader = Loader()  # one codec serves all files of its weights

    def call(job: Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files.tokens.convert import convert

        return convert(source, target, codec=loader, **given)

    batch.convert(
        planned,
        call,
        as_json=as_json,
        verb="converting",
        force=options["force"],
        skip=skip_existing,
        fatal=(UsageError, ModelError),
    )


def _is_tokens(name: str) -> bool:
    return name.lower().endswith((".npz", ".npy"))


def _suffix(path: str) -> str:
    if not _is_tokens(path):
        return ".npz"
    from polycodec.codecs.files.kinds import KINDS
    from polycodec.codecs.files.tokens.file import stored_tokens

    return KINDS[(os.path.isfile(path) and stored_tokens(path)) or "speech"].decoded


def _kinds(options: dict[str, Any]) -> tuple[str, ...]:
    """The kinds that are taken from folders: those that the model may code."""
    if options["checkpoint"] and not options["model"]:
        return "speech", "image"
    return ("image" if (options["model"] or "").startswith("image/") else "speech",)


def _taken(inputs: Sequence[str], wanted: tuple[str, ...]) -> Taken:
    """What is taken of folders: signals, or tokens where nothing else is there."""
    signals = functools.cache(functools.partial(_refusal, wanted))
    if not any(map(places.is_folder, inputs)):
        return signals
    files, _ = expand(inputs, lambda path: None)
    if any(signals(file) is None for file in files):
        return signals
    back = functools.partial(_refusal, ("tokens",))
    return back if any(map(_is_tokens, files)) else signals


def _refusal(wanted: tuple[str, ...], path: str) -> str | None:
    """Why a file of a folder is not taken; ``wanted``: kinds that are."""
    if "tokens" in wanted and _is_tokens(path):
        return None
    stored = stored_kind(path)
    kind = stored or (kind_of(path) if recognised(path) else None)
    if kind == "video" and not stored:
        kind = "speech"  # its sound
    if kind in wanted:
        return None
    if _is_tokens(path):
        return "tokens already"
    if kind == "image":
        return "of images, which are taken where -m names their model"
    return f"no {' and no '.join(wanted)}"
