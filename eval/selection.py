# SPDX-License-Identifier: Apache-2.0
"""From the names a person gives to the subjects that will be measured.

"image/default"            our codec with the weights of the package
"image/default@runs/a"     our codec with the weights of a training run
"image/default --effort N" our codec with N steps of search for each file
"jpeg", "avif", ...        anchors, also when named among the codecs
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polycodec.codecs.transforms.numbers import check_quality
from polycodec.errors import UsageError
from polycodec.eval.kind import Kind
from polycodec.eval.options import EvalOptions
from polycodec.eval.subjects import EFFORT, OwnCodec, Subject


def select(kind: Kind, options: EvalOptions) -> tuple[list[Subject], dict[str, str]]:
    """Build what will be measured, and the reasons for what will not."""
    rates = vars(options)[kind.control]
    if options.qualities is not None and rates is not None:
        raise UsageError(
            f"qualities and rates ({kind.control}) exclude each other; give one"
        )
    for quality in options.qualities or ():
        check_quality(quality)
    if not all(0 < rate < math.inf for rate in rates or ()):
        raise UsageError(f"{kind.control} is {rates}; expected numbers above 0")
    wanted: dict[str, Any] = {"device": options.device}
    if options.qualities is not None:
        wanted["settings"] = tuple(options.qualities)
    if rates is not None:
        wanted.update(control=kind.control, settings=tuple(rates))
    codecs = (kind.codec,) if options.codecs is None else options.codecs
    anchors = kind.default_anchors if options.anchors is None else options.anchors
    chosen = [_codec(kind, codec, options.checkpoint, wanted) for codec in codecs]
    chosen += _anchors(kind, anchors, options.anchor_settings or {})
    if not chosen or len({s.name for s in chosen}) < len(chosen):
        raise UsageError(
            "expected at least one codec or anchor, each once; found "
            f"{[s.name for s in chosen]}; correct the list"
        )
    _tell_apart(chosen)
    reasons = {s.name: s.missing() for s in chosen}
    skipped = {name: reason for name, reason in reasons.items() if reason}
    remaining = [s for s in chosen if s.name not in skipped]
    if not remaining:
        raise UsageError(f"nothing can be measured here: {skipped}; choose others")
    return remaining, skipped


def _codec(
    kind: Kind, codec: str | Subject, checkpoint: Any, wanted: Mapping[str, Any]
) -> Subject:
    """The subject of a name; a subject is its own."""
    if not isinstance(codec, str):
        return codec
    if codec in kind.anchors:
        return kind.anchor(codec)
    codec, _, effort = codec.partition(EFFORT)
    model, _, own = codec.partition("@")
    given = {**wanted, "checkpoint": own or checkpoint}
    if effort:
        if not effort.strip().isdecimal():
            raise UsageError(
                f"--effort of {codec} is '{effort}'; expected a number of steps"
            )
        given["effort"] = int(effort)
    return kind.own(model, **given)


def _tell_apart(subjects: Sequence[Subject]) -> None:
    """Give codecs of ours whose labels are alike their whole names instead."""
    count = Counter(subject.label for subject in subjects)
    for subject in subjects:
        if count[subject.label] > 1 and isinstance(subject, OwnCodec):
            subject.label = f"polycodec {subject.name}"


def _anchors(
    kind: Kind, names: Sequence[str], settings: Mapping[str, Sequence[float]]
) -> list[Subject]:
    """The anchors of these names, with ``settings`` in place of their own."""
    strangers = sorted(set(settings) - set(names))
    if strangers:
        raise UsageError(
            f"settings for {', '.join(strangers)}, which are not among the anchors "
            f"{', '.join(names)}; add them or leave their settings out"
        )
    return [
        replace(kind.anchor(name), settings=tuple(settings[name]))
        if name in settings
        else kind.anchor(name)
        for name in names
    ]
