# SPDX-License-Identifier: Apache-2.0
"""What an evaluation can be told, for every kind, by Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polycodec.errors import UsageError
from polycodec.eval.datasets import Place
from polycodec.eval.subjects import Subject


@dataclass(frozen=True)
class EvalOptions:
    """The options of ``polycodec eval``; None leaves a choice to the kind of signal.

    ``codecs``: names of our codecs, ``name@checkpoint``, or objects that are a Subject.
    ``qualities`` or ``target_bpp`` (images), ``target_kbps`` (speech) are their
    settings; ``anchor_settings`` replaces an anchor's own. ``reference`` names the one
    anchor or published curve to compare against, instead of each. ``reuse`` names
    earlier output folders whose equal measurements may be taken. ``limit`` keeps the
    first files only, ``show`` names the image of the crops, ``measures`` what is taken,
    all that is installed unless told. ``command``: the command line, for the report.
    """

    codecs: Sequence[str | Subject] | None = None
    anchors: Sequence[str] | None = None
    qualities: Sequence[float] | None = None
    target_bpp: Sequence[float] | None = None
    target_kbps: Sequence[float] | None = None
    anchor_settings: Mapping[str, Sequence[float]] | None = None
    measures: Sequence[str] | None = None
    checkpoint: Place | None = None
    device: str = "auto"
    reference: str | None = None
    published: Place | None = None
    published_ids: Sequence[str] | None = None
    data: Place | None = None
    limit: int | None = None
    reuse: Sequence[Place] = ()
    show: str | None = None
    report: bool = True
    quiet: bool = False
    command: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit is {self.limit}; expected at least 1 file")

    def check(self, kind: str, known: Mapping[str, Sequence[str]]) -> None:
        """Refuse an option that is given and not among those of this ``kind``.

        ``known``: by kind of signal, the options that not every kind has.
        """
        for other, names in known.items():
            for name in names:
                if name not in known[kind] and vars(self)[name] is not None:
                    raise UsageError(
                        f"--{name.replace('_', '-')} is for data sets of {other}, this "
                        f"one is of {kind}; leave it out"
                    )
