# SPDX-License-Identifier: Apache-2.0
"""How a family is filled: parts by name, checked against one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from polycodec.codecs.heads.base import Head
from polycodec.codecs.quantizers.base import Quantizer
from polycodec.codecs.signals.base import Signal
from polycodec.codecs.transforms.base import Transform
from polycodec.entropy_models.base import EntropyModel
from polycodec.errors import ModelError
from polycodec.registry import build, find, options_of

T = TypeVar("T", Transform, Quantizer, EntropyModel, Head)
Options = Mapping[str, Any]
# What a part states of itself: as its base says, and as the codec around it has it.
_STATED: dict[type, tuple[str, ...]] = {
    Transform: ("channels", "stride"),
    Quantizer: ("channels", "sizes"),
    EntropyModel: (),
    Head: ("features", "classes"),
}
_WORDS = {
    "image": "images",
    "speech": "speech",
    "video": "video",
    "features": "features of images",
}


def grid_of(codes: Tensor | None, size: tuple[int, ...] | None) -> tuple[int, ...]:
    """(B, *S) of codes (B, C, *S), or ``size`` when they are still to be decoded."""
    if codes is not None:
        return len(codes), *codes.shape[2:]
    assert size is not None, "decoding needs the size of the grid"
    return size


def signal_of(options: Options | str | None, default: str, **more: Any) -> Signal:
    """The signal that a config names, or ``default``.

    more: its options where configs have them beside the signal; None: not given.
    """
    given = {"name": options} if isinstance(options, str) else dict(options or {})
    given = {"name": default, **given}
    given |= {k: v for k, v in more.items() if v is not None}
    return build(f"signal/{given.pop('name')}", **given)


def part_of(
    base: type[T],
    kind: str,
    options: Options | None,
    *,
    default: str,
    signal: Signal,
    codes: str = "",
    **shared: Any,
) -> T:
    """Build ``kind``/name of options with what the codec shares with its parts.

    codes: what an entropy model has to code, "": anything. shared: options that the
    part is given where it knows them. ModelError for a part of another kind of signal
    or class, for a model of something else, and for a config that gives a shared option
    another value, naming both sides.
    """
    if not isinstance(options, (Mapping, type(None))):
        raise ModelError(
            f"'{kind}' is {options!r}; expected a part's name and its options, such as "
            f"{{name: {default}}}"
        )
    given = {"name": default, **(options or {})}
    name = f"{kind}/{given.pop('name')}"
    known, made = options_of(name), find(name)
    if codes and isinstance(made, type) and issubclass(made, EntropyModel):
        _check_codes(name, made.codes, codes)
    passed = {k: v for k, v in shared.items() if k in known}
    part = build(name, **{**passed, **given})
    if not isinstance(part, base):
        raise ModelError(
            f"{name} is a {type(part).__name__}; expected a {base.__name__} "
            f"({base.__module__}); derive it from that class"
        )
    _check_stated(name, part, base)
    if part.kind not in (None, *_WORDS):
        raise ModelError(
            f"{name} is of the kind {part.kind!r}; expected one of "
            f"{', '.join(_WORDS)}, or None for all; correct its 'kind'"
        )
    if part.kind not in (None, signal.kind):
        raise ModelError(
            f"{name} is a part for {_WORDS[part.kind]}, the codec around it codes "
            f"{_WORDS[signal.kind]}; take another part, or another signal"
        )
    has = {**given, **{key: getattr(part, key) for key in _STATED[base]}}
    for key, value in shared.items():
        if has.get(key, value) != value:
            raise ModelError(
                f"{name} has {has[key]} {key}, the codec around it {value}; leave "
                f"'{key}' to the codec"
            )
    return part


def _check_stated(name: str, part: T, base: type[T]) -> None:
    """ModelError for a part that has not set up what its base asks of it."""
    for key in ("_parameters", *_STATED[base]):
        if getattr(part, key, None) is None:
            how = "call super().__init__() in it" if key[0] == "_" else "set it there"
            what = "is not initialised" if key[0] == "_" else f"states no '{key}'"
            raise ModelError(
                f"{name} {what}; expected of a {base.__name__} ({base.__module__}) by "
                f"the end of its __init__; {how}"
            )
    for weight, value in part.named_parameters():
        if not value.numel():
            raise ModelError(
                f"{weight} of {name} has the shape {tuple(value.shape)}, no numbers; "
                "expected widths and depths of its layers of 1 or more"
            )


def _check_codes(name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ModelError(
            f"{name} codes {found}, the codec around it {wanted}; take another entropy "
            "model, or another codec"
        )
