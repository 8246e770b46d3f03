# SPDX-License-Identifier: Apache-2.0
"""From the names a person gives to the subjects that will be measured.

"image/default"            our codec with the weights of the package
"image/default@runs/a"     our codec with the weights of a training run
"jpeg", "avif", ...        anchors, also when named among the codecs
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polycodec.errors import UsageError
from polycodec.eval.anchors import ANCHORS, PillowAnchor, anchor
from polycodec.eval.curves import Curve
from polycodec.eval.subjects import PolycodecSubject, Subject


def select(
    codecs: Sequence[str | Subject],
    anchors: Sequence[str],
    *,
    qualities: Sequence[float] | None = None,
    target_bpps: Sequence[float] | None = None,
    anchor_settings: Mapping[str, Sequence[float]] | None = None,
    checkpoint: str | pathlib.Path | None = None,
    device: str = "auto",
) -> tuple[list[Subject], dict[str, str]]:
    """Build what will be measured, and the reasons for what will not."""
    if qualities is not None and target_bpps is not None:
        raise UsageError("qualities and target_bpps exclude each other; give one")
    wanted: dict[str, Any] = {"device": device}
    if qualities is not None:
        wanted["settings"] = tuple(qualities)
    if target_bpps is not None:
        wanted.update(control="target_bpp", settings=tuple(target_bpps))
    chosen = [_codec(codec, checkpoint, wanted) for codec in codecs]
    chosen += _anchors(anchors, anchor_settings or {})
    if not chosen or len({s.name for s in chosen}) < len(chosen):
        raise UsageError(
            "expected at least one codec or anchor, each once; found "
            f"{[s.name for s in chosen]}; correct the list"
        )
    reasons = {s.name: s.missing() for s in chosen}
    skipped = {name: reason for name, reason in reasons.items() if reason}
    remaining = [s for s in chosen if s.name not in skipped]
    if not remaining:
        raise UsageError(f"nothing can be measured here: {skipped}; choose others")
    return remaining, skipped


def check_reference(
    reference: str | None, subjects: Sequence[Subject], dashed: Sequence[Curve]
) -> None:
    """Refuse a reference that is no curve of this run."""
    known = [s.name for s in subjects] + [c.name for c in dashed]
    if reference is not None and reference not in known:
        raise UsageError(
            f"the reference '{reference}' is not part of this run; expected one of "
            f"{', '.join(known)}; add it to the anchors or published curves"
        )


def _codec(
    codec: str | Subject,
    checkpoint: str | pathlib.Path | None,
    wanted: Mapping[str, Any],
) -> Subject:
    if not isinstance(codec, str):
        return codec
    if codec in ANCHORS:
        return anchor(codec)
    model, _, own = codec.partition("@")
    return PolycodecSubject(model, checkpoint=own or checkpoint, **wanted)


def _anchors(
    names: Sequence[str], settings: Mapping[str, Sequence[float]]
) -> list[PillowAnchor]:
    strangers = sorted(set(settings) - set(names))
    if strangers:
        raise UsageError(
            f"settings for {', '.join(strangers)}, which are not among the anchors "
            f"{', '.join(names)}; add them or leave their settings out"
        )
    return [
        replace(anchor(name), settings=tuple(settings[name]))
        if name in settings
        else anchor(name)
        for name in names
    ]
