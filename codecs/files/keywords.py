# SPDX-License-Identifier: Apache-2.0
"""The options of all kinds together, as the keywords of Python's functions.

    @documented(EncodeKeywords)                    help(encode), inspect.signature and
    def encode(input, output=None, **options):     type checkers show every option

What a function takes itself beside options stands under TYPE_CHECKING here: checkers
know a function by the class alone.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from polycodec.codecs.files.options import (
    ConvertOptions,
    FeatureOptions,
    ImageDecode,
    ImageEncode,
    LatentOptions,
    Options,
    SpeechDecode,
    SpeechEncode,
    TokenOptions,
    VideoDecode,
    VideoEncode,
    merged,
    parameters,
)

if TYPE_CHECKING:
    from typing import Concatenate

    from polycodec.codecs.base import Codec
    from polycodec.codecs.files.ends import Progress, Target
    from polycodec.codecs.files.loader import Loader


@dataclass(frozen=True, kw_only=True)
class EncodeKeywords(SpeechEncode, VideoEncode, ImageEncode):
    """What `polycodec.encode` takes beside its ends."""

    if TYPE_CHECKING:
        codec: Codec | Loader | None = None
        progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class DecodeKeywords(SpeechDecode, VideoDecode, ImageDecode):
    """What `polycodec.decode` takes beside its ends."""

    if TYPE_CHECKING:
        codec: Codec | Loader | None = None
        progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class TokenKeywords(TokenOptions):
    """What `polycodec.tokens` takes beside its ends."""

    if TYPE_CHECKING:
        codec: Codec | Loader | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureKeywords(FeatureOptions):
    """What `polycodec.features` takes beside its ends."""

    if TYPE_CHECKING:
        codec: Codec | Loader | None = None


@dataclass(frozen=True, kw_only=True)
class LatentKeywords(LatentOptions):
    """What `polycodec.latents` takes beside its ends."""

    if TYPE_CHECKING:
        codec: Codec | Loader | None = None


@dataclass(frozen=True, kw_only=True)
class ConvertKeywords(ConvertOptions):
    """What the command tokens takes beside its ends."""

    if TYPE_CHECKING:
        codec: Codec | Loader | None = None


In = TypeVar("In", contravariant=True)
Done = TypeVar("Done", covariant=True)
Keywords = ParamSpec("Keywords")


class Call(Protocol[In, Keywords, Done]):
    """A function of two ends whose keywords are the fields of a class."""

    def __call__(
        self,
        input: In,
        output: Target | None = None,
        *args: Keywords.args,
        **options: Keywords.kwargs,
    ) -> Done:
        """Do it."""


def documented(
    keywords: Callable[Keywords, Options],
) -> Callable[[Callable[Concatenate[In, ...], Done]], Call[In, Keywords, Done]]:
    """Show ``**options`` of a function in its signature, docstring and type."""
    classes = [typing.cast(type[Options], keywords)]

    def add(
        function: Callable[Concatenate[In, ...], Done],
    ) -> Call[In, Keywords, Done]:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *parameters(classes).values()]
        )
        lines = [
            f"    {f.name:12}{f.metadata['help']}" for f in merged(classes).values()
        ]
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", "Options:", *lines])
        return typing.cast("Call[In, Keywords, Done]", function)

    return add
