# SPDX-License-Identifier: Apache-2.0
"""The command eval: codecs beside JPEG, WebP, AVIF and others; speech beside Opus."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from polycodec.cli.options import AsJson, Checkpoint, Device
from polycodec.cli.values import check_device, numbers, words

Report = Annotated[
    str, typer.Option("--output", "-o", metavar="DIR", help="For the report.")
]
Dataset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="kodak|speech|DIR|FILES", help="What to measure on. [default: kodak]"
    ),
]
Codecs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME...",
        help="Ours; NAME@RUN too. image/default or speech/default unless told.",
    ),
]
Anchors = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="jpeg,webp,avif-psnr,jxl,jpeg2000 unless told, also avif (tuned for the "
        "eye), jpeg-420; of speech opus,opus-vbr,codec2; '' for none.",
    ),
]
Qualities = Annotated[
    str | None,
    typer.Option(
        metavar="Q,Q,...", help="Of our codecs, 0 to 100; 8 or 5 of them unless told."
    ),
]
TargetBpps = Annotated[
    str | None,
    typer.Option(
        metavar="F,F,...", help="Images: bits per pixel instead of qualities."
    ),
]
TargetRates = Annotated[
    str | None,
    typer.Option(
        "--target-kbps",
        metavar="F,F,...",
        help="Speech: rates in kbit/s instead of qualities.",
    ),
]
Measures = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,...",
        help="All that are installed unless told. Images: psnr,ms_ssim. Speech: "
        "pesq_wb,pesq_nb,stoi,visqol,si_sdr,mel.",
    ),
]
Reference = Annotated[
    str | None, typer.Option(metavar="NAME", help="BD-rate against this one only.")
]
Published = Annotated[
    str | None, typer.Option(metavar="JSON", help="Published curves, dashed.")
]
PublishedIds = Annotated[
    str | None,
    typer.Option(metavar="ID,ID,...", help="Of these; a few well-known unless told."),
]
Show = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGE", help="In the crops of the report; one by rule unless told."
    ),
]
Reuse = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIR...", help="Reports whose equal measurements are not made again."
    ),
]
Data = Annotated[
    str | None, typer.Option(metavar="DIR", help="Where kodak/ or speech/ is already.")
]
Limit = Annotated[int | None, typer.Option(metavar="N", help="The first N files only.")]


def evaluate(
    context: typer.Context,
    out: Report,
    dataset: Dataset = None,
    codec: Codecs = None,
    anchors: Anchors = None,
    qualities: Qualities = None,
    target_bpp: TargetBpps = None,
    target_kbps: TargetRates = None,
    measures: Measures = None,
    reference: Reference = None,
    published: Published = None,
    published_ids: PublishedIds = None,
    show: Show = None,
    reuse: Reuse = None,
    data: Data = None,
    limit: Limit = None,
    device: Device = "auto",
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Measure codecs beside JPEG, WebP, AVIF and others; of speech, beside Opus.

    The report names processor, versions and this command; equal measurements that its
    folder holds already are not made again.
    """
    check_device(device)
    chosen = dataset or ["kodak"]
    from polycodec.eval.run import evaluate as run

    result = run(
        chosen[0] if len(chosen) == 1 else chosen,
        out=out,
        codecs=codec,
        anchors=words(anchors),
        qualities=numbers(qualities),
        target_bpp=numbers(target_bpp),
        target_kbps=numbers(target_kbps),
        measures=words(measures),
        reference=reference,
        published=published,
        published_ids=words(published_ids),
        show=show,
        reuse=reuse or (),
        data=data,
        limit=limit,
        device=device,
        checkpoint=checkpoint,
        command=shlex.join(["polycodec", *context.obj]),
    )
    text = (Path(out) / "run.json").read_text("utf-8").rstrip()
    print(text if as_json else result.summary())
