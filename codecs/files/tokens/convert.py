# SPDX-License-Identifier: Apache-2.0
"""Signals to token files and back; `polycodec tokens` calls this.

    talk.flac ─ encode ─┐                      ┌─ entropy code ─► talk.plc
                        ├─► talk.npz (tokens) ─┤
    talk.plc  ──────────┘                      └─ synthesis ────► talk.wav

The tokens of a recording or picture are those that its file holds, and what is made of
tokens is what that file decodes to. What depends on the kind: `speech.py`, `image.py`.
"""

from __future__ import annotations

import os
import tempfile
from types import ModuleType
from typing import Any

from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.ends import Ends, Given, Target, codec_of, target_of
from polycodec.codecs.files.keywords import (
    ConvertKeywords,
    LatentKeywords,
    TokenKeywords,
    documented,
)
from polycodec.codecs.files.kinds import KINDS, kind_of, stored_kind
from polycodec.codecs.files.options import (
    ConvertOptions,
    LatentOptions,
    TokenOptions,
    options_of,
)
from polycodec.codecs.files.results import (
    ImageTokenResult,
    LatentResult,
    TokenResult,
)
from polycodec.codecs.files.sources import Source, Twice, name_of, opened, seekable
from polycodec.codecs.files.tokens import continuous, image, speech
from polycodec.codecs.files.tokens.file import (
    TOKEN_SUFFIXES,
    AnyTokens,
    ImageTokens,
    Latents,
    Tokens,
    read_tokens,
    stored_tokens,
    with_codebooks,
    write_tokens,
)
from polycodec.errors import InputError, ModelError, UsageError

MODULES: dict[str, ModuleType] = {
    "speech": speech,
    "image": image,
}  # kinds that have tokens


@documented(TokenKeywords)
def tokens(
    input: Source | Tokens | ImageTokens,
    output: Target | None = None,
    *,
    codec: Given = None,
    **options: Any,
) -> Tokens | ImageTokens:
    """Return the tokens of a signal, .plc or token file; write them to ``output`` too.

    ``codes`` of what is returned: (channels, levels, frames) int32 of speech, `Tokens`;
    (planes, rows, columns) of images, `ImageTokens`; `docs/tokens.md` has all fields.
    The suffix of ``output`` decides: .npz or .npy for tokens, .plc or a format of
    sounds or images for what they stand for; a stream gets .npz. ``quality`` (levels;
    all unless told) and ``model`` are for signals, ``channels`` for speech. ``codec``:
    an already loaded codec, for many files. Raises the errors of `polycodec.errors`.
    """
    chosen = options_of(TokenOptions, options)
    found: Any = _both(input, output, codec, chosen, False)
    made: Tokens | ImageTokens = found
    return made


@documented(LatentKeywords)
def latents(
    input: Source | Latents,
    output: Target | None = None,
    *,
    codec: Given = None,
    **options: Any,
) -> Latents:
    """Return latents of speech before any rounding; write them to ``output`` too.

    ``latents`` of what is returned: (channels, D, frames) float32. Of a .plc file those
    that its codes stand for. ``output``: .npz or .npy for latents, a format of sounds
    for what they sound like; a stream gets .npz. Otherwise as `tokens`.
    """
    chosen = options_of(LatentOptions, options)
    found: Any = _both(input, output, codec, chosen, True)
    made: Latents = found
    return made


def _both(
    input: Source | AnyTokens,
    output: Target | None,
    codec: Given,
    options: TokenOptions | LatentOptions,
    continuous: bool,
) -> AnyTokens:
    """What `tokens` and `latents` do."""
    source: Twice
    if isinstance(input, (Tokens, ImageTokens, Latents)):
        source, found = "-", input
        found.check()
    else:
        source = seekable(input)
        found, _ = _tokens_of(source, options, codec, continuous)
    if isinstance(found, Latents) != continuous:
        held = "tokens" if continuous else "latents"
        raise InputError(f"it holds {held}; polycodec.{held} takes them")
    if output is not None:
        target = target_of(source, output, "", options.force)
        ends = Ends[Any](source, target, options, codec)
        _write(found, ends, _suffix(target, ".npz"))
    return found


@documented(ConvertKeywords)
def convert(
    input: Source,
    output: Target | None = None,
    *,
    codec: Given = None,
    **options: Any,
) -> TokenResult | ImageTokenResult | LatentResult:
    """Write the tokens of a signal or .plc file, or what a file of tokens stands for.

    As `tokens`, for the command line: ``output`` is .npz, .wav or .png unless told.
    """
    input = seekable(input)
    chosen = options_of(ConvertOptions, options)
    if chosen.continuous and chosen.quality != 100:
        raise UsageError("quality is of tokens, and latents have none; leave it out")
    kind = stored_tokens(input)
    usual = KINDS[kind].decoded if kind else ".npz"
    target = target_of(input, output, usual, chosen.force)
    ends = Ends(input, target, chosen, codec)
    suffix = _suffix(target, usual)
    if bool(kind) == (suffix in TOKEN_SUFFIXES):
        wanted = "a format of sounds or images, or .plc" if kind else ".npz or .npy"
        raise UsageError(
            f"cannot write '{suffix}' from {'tokens' if kind else 'a signal'}; "
            f"expected {wanted}"
        )
    found, notes = _tokens_of(input, chosen, codec, chosen.continuous)
    _write(found, ends, suffix)
    about = {**ends.about(found.model), "digest": found.digest, "notes": notes}
    if isinstance(found, ImageTokens):
        planes, rows, columns = found.codes.shape
        return ImageTokenResult(
            **about,
            planes=planes,
            rows=rows,
            columns=columns,
            width=found.width,
            height=found.height,
        )
    if isinstance(found, Latents):
        return LatentResult(
            **about,
            channels=found.channels,
            dimensions=found.latents.shape[1],
            frames=found.latents.shape[2],
            frame_rate=found.frame_rate,
            of_mel=found.of_mel,
            duration=found.samples / found.rate,
        )
    count, levels, frames = found.codes.shape
    return TokenResult(
        **about,
        channels=count,
        levels=levels,
        frames=frames,
        frame_rate=found.frame_rate,
        duration=found.samples / found.rate,
    )


def _suffix(target: Target, usual: str) -> str:
    if not isinstance(target, (str, os.PathLike)):
        return usual
    return os.path.splitext(target)[1].lower()


def _tokens_of(
    input: Twice,
    options: TokenOptions | LatentOptions,
    codec: Given,
    latent: bool,
) -> tuple[AnyTokens, list[str]]:
    """The tokens of a file, and what a person should know of it."""
    if stored_tokens(input):
        with opened(input) as file:
            tokens = read_tokens(file)
        _check_stored(tokens, name_of(input), options)
        return tokens, []
    stored = stored_kind(input)
    kind = stored or kind_of(input)
    if kind == "video" and not stored:
        kind = "speech"  # its sound
    if kind not in MODULES:
        raise InputError(
            f"{name_of(input)} holds {kind}; tokens are made of speech and of images"
        )
    if kind != "speech" and options.channels != "mix":
        raise UsageError(f"channels is for speech, found {kind}; leave it out")
    module = MODULES[kind]
    if latent:
        if kind != "speech":
            raise UsageError(
                f"latents are those of speech, found {kind}; codec.latents has those "
                "of images, in Python"
            )
        module = continuous
    if stored:
        with opened(input) as file:
            tokens, notes = module.read(Reader(file), options, codec)
        _check_stored(tokens, name_of(input), options)
        return tokens, notes
    return module.tokens_of(input, options, codec)


def _check_stored(
    tokens: AnyTokens, name: str, options: TokenOptions | LatentOptions
) -> None:
    """InputError where something else was asked than a file of codes says."""
    asked = options.model
    if asked and not options.checkpoint and asked != tokens.model:
        raise InputError(
            f"{name} is of the model '{tokens.model}', and '{asked}' was asked for; "
            "leave --model out"
        )
    for option in ("quality", "channels"):
        usual = TokenOptions.__dataclass_fields__[option].default
        if getattr(options, option, usual) != usual:
            raise InputError(
                f"{option} is of signals, and {name} is coded already; leave it out"
            )


def _write(tokens: AnyTokens, ends: Ends[Any], suffix: str) -> None:
    """Write tokens, or what they stand for."""
    if suffix in TOKEN_SUFFIXES:
        with ends.writing() as file:
            write_tokens(file, tokens, plain=suffix == ".npy")
        return
    if isinstance(tokens, Latents):
        continuous.write(tokens, ends, suffix)
        return
    of, kind = MODULES[tokens.kind], KINDS[tokens.kind]
    codec = with_codebooks(codec_of(of.header_of(tokens, 0), ends.options, ends.codec))
    if tuple(tokens.sizes) != tuple(codec.sizes) or tokens.every != codec.stride:
        raise ModelError(
            f"the tokens are of {len(tokens.sizes)} codebooks, "
            f"{tokens.sizes.tolist()!s:.40}, every {tokens.every}; '{codec.name}' has "
            f"{len(codec.sizes)}, {list(codec.sizes)!s:.40}, every {codec.stride}"
        )
    if suffix == ".plc":
        with ends.writing() as file:
            of.write(tokens, file, codec)
        return
    with tempfile.TemporaryFile() as plc:
        of.write(tokens, plc, codec)
        plc.seek(0)
        asked = kind.decode(force=ends.options.force)
        there = Ends(plc, ends.target, asked, codec, suffix=suffix)
        kind.module("decode").decode(Reader(plc), there)
