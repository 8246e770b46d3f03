# SPDX-License-Identifier: Apache-2.0
"""From the names a person gives to the subjects that will be measured.

"image/default"            our codec with the weights of the package
"image/default@runs/a"     our codec with the weights of a training run
"jpeg", "avif", ...        anchors, also when named among the codecs

Pictures and sound have a catalogue each; the rules are the same.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polycodec.errors import UsageError
from polycodec.eval.image.curves import Curve
from polycodec.eval.image.subjects import Measurable, OwnCodec


@dataclass(frozen=True)
class Catalogue:
    """What one kind of signal can be measured with."""

    own: type[OwnCodec]
    anchors: Mapping[str, Any]
    anchor: Callable[[str], Any]  # finds one of them; says so when there is none
    rate: str  # the control of our codecs that asks for a rate

    def codec(
        self,
        codec: str | Measurable,
        checkpoint: str | pathlib.Path | None,
        wanted: Mapping[str, Any],
    ) -> Any:
        """The subject of a name; a subject is its own."""
        if not isinstance(codec, str):
            return codec
        if codec in self.anchors:
            return self.anchor(codec)
        model, _, own = codec.partition("@")
        return self.own(model, checkpoint=own or checkpoint, **wanted)

    def with_settings(
        self, names: Sequence[str], settings: Mapping[str, Sequence[float]]
    ) -> list[Any]:
        """The anchors of these names, with ``settings`` in place of their own."""
        strangers = sorted(set(settings) - set(names))
        if strangers:
            raise UsageError(
                f"settings for {', '.join(strangers)}, which are not among the anchors "
                f"{', '.join(names)}; add them or leave their settings out"
            )
        return [
            replace(self.anchor(name), settings=tuple(settings[name]))
            if name in settings
            else self.anchor(name)
            for name in names
        ]


def select(
    catalogue: Catalogue,
    codecs: Sequence[str | Measurable],
    anchors: Sequence[str],
    *,
    qualities: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
    anchor_settings: Mapping[str, Sequence[float]] | None = None,
    checkpoint: str | pathlib.Path | None = None,
    device: str = "auto",
) -> tuple[list[Any], dict[str, str]]:
    """Build what will be measured, and the reasons for what will not."""
    if qualities is not None and rates is not None:
        raise UsageError(
            f"qualities and rates ({catalogue.rate}) exclude each other; give one"
        )
    wanted: dict[str, Any] = {"device": device}
    if qualities is not None:
        wanted["settings"] = tuple(qualities)
    if rates is not None:
        wanted.update(control=catalogue.rate, settings=tuple(rates))
    chosen = [catalogue.codec(codec, checkpoint, wanted) for codec in codecs]
    chosen += catalogue.with_settings(anchors, anchor_settings or {})
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
    reference: str | None, subjects: Sequence[Measurable], dashed: Sequence[Curve]
) -> None:
    """Refuse a reference that is no curve of this run."""
    known = [s.name for s in subjects] + [c.name for c in dashed]
    if reference is not None and reference not in known:
        raise UsageError(
            f"the reference '{reference}' is not part of this run; expected one of "
            f"{', '.join(known)}; add it to the anchors or published curves"
        )
