# SPDX-License-Identifier: Apache-2.0
"""What an evaluation can be told, for every kind, by Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polycodec.codecs.files.options import DeviceOptions, option, spelt
from polycodec.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EvalOptions(DeviceOptions):
    """The options of ``polycodec eval``; None leaves a choice to the kind of signal.

    ``codecs`` may hold objects that are a Subject; ``anchor_settings`` replaces an
    anchor's own. Measurements are taken from ``reuse`` where they are equal.
    ``command``: the command line, for the report.
    """

    codecs: Sequence[Any] | None = option(
        None,
        "Ours; NAME@RUN, 'NAME --effort N' too. KIND/default unless told.",
        "NAME ...",
        short="--codec",
    )
    anchors: Sequence[str] | None = option(
        None,
        "jpeg,webp,avif-psnr,jxl,jpeg2000 unless told, also avif (tuned for the eye), "
        "jpeg-420; of speech opus,opus-vbr,codec2; of video x264,x264-intra,x265,av1, "
        "also x265-veryslow; '' for none.",
        "A,B,...",
    )
    qualities: Sequence[float] | None = option(
        None, "Of our codecs, 0 to 100; 8 or 5 of them unless told.", "F,F,..."
    )
    target_bpp: Sequence[float] | None = option(
        None, "Images, video: bits per pixel instead of qualities.", "F,F,..."
    )
    target_kbps: Sequence[float] | None = option(
        None, "Speech: rates in kbit/s instead of qualities.", "F,F,..."
    )
    measures: Sequence[str] | None = option(
        None,
        "All that are installed unless told. Images: psnr,ms_ssim. Speech: "
        "pesq_wb,pesq_nb,stoi,visqol,si_sdr,mel; only if named, of what is decoded "
        "alone: dnsmos,dnsmos_p808,distillmos. Video: psnr,psnr_yuv,ms_ssim.",
        "A,B,...",
    )
    reference: str | None = option(None, "BD-rate against this one only.", "NAME")
    published: str | Path | None = option(  # noqa: RUF009
        None, "Published curves, dashed.", "JSON"
    )
    published_ids: Sequence[str] | None = option(
        None, "Of these; a few well-known unless told.", "A,B,..."
    )
    show: str | None = option(
        None, "In the crops of the report; one by rule unless told.", "IMAGE"
    )
    reuse: Sequence[str | Path] | None = option(
        None, "Reports whose equal measurements are not made again.", "DIR ..."
    )
    data: str | Path | None = option(  # noqa: RUF009
        None, "Where kodak/, speech/ or uvg/ is already.", "DIR"
    )
    frames: int | None = option(
        None, "Videos: the first N frames of each only.", "N", least=1
    )
    limit: int | None = option(None, "The first N files only.", "N", least=1)
    checkpoint: str | Path | None = option(  # noqa: RUF009
        None, "Weights of an exported run.", "RUN"
    )
    anchor_settings: Mapping[str, Sequence[float]] | None = option(None, "")
    report: bool = option(True, "")
    quiet: bool = option(False, "")
    command: str | None = option(None, "")

    def check(self, kind: str, known: Mapping[str, Sequence[str]]) -> None:
        """Refuse an option that is given and not among those of this ``kind``.

        ``known``: by kind of signal, the options that not every kind has.
        """
        for other, names in known.items():
            for name in names:
                if name not in known[kind] and vars(self)[name] is not None:
                    raise UsageError(
                        f"--{spelt(name)} is for data sets of {other}, this "
                        f"one is of {kind}; leave it out"
                    )
