# SPDX-License-Identifier: Apache-2.0
"""The options of the commands: their types, names and one-line helps."""

from __future__ import annotations

from typing import Annotated

import typer

# --- of several commands --------------------------------------------------------

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="IN", help="Files or folders; - is standard input."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="OUT", help="File, folder, or - for standard output."
    ),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda", help="Where the networks run.")
]
Checkpoint = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Weights of an exported run."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON in place of text.")]
Files = Annotated[list[str], typer.Argument(metavar="FILE")]

# --- encode and decode -----------------------------------------------------------

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="See polycodec models."),
]
Quality = Annotated[
    float | None,
    typer.Option("--quality", "-q", metavar="0..100", help="50 unless told."),
]
TargetBpp = Annotated[
    float | None,
    typer.Option(metavar="F", help="At most F bits per pixel, of sound per second."),
]
TargetKbps = Annotated[
    float | None, typer.Option(metavar="F", help="Sound: at most F kilobits a second.")
]
TargetSize = Annotated[
    str | None, typer.Option(metavar="50kB", help="At most that many bytes a file.")
]
MinPsnr = Annotated[
    float | None, typer.Option(metavar="DB", help="Smallest file of at least DB.")
]
Effort = Annotated[
    int,
    typer.Option(metavar="N", help="Steps of fitting the latents to this image."),
]
Tile = Annotated[
    int | None,
    typer.Option(metavar="N", help="Side of tiles in pixels, 0: none."),
]
Alpha = Annotated[
    str, typer.Option(metavar="lossless|codec", help="How transparency is coded.")
]
Psnr = Annotated[bool, typer.Option("--psnr", help="Decode too, and report the PSNR.")]
Region = Annotated[
    str | None,
    typer.Option(metavar="X,Y,W,H", help="Decode this part only, in pixels."),
]
Channels = Annotated[
    str, typer.Option(metavar="mix|keep", help="Sound: one channel, or each.")
]
Seconds = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="Sound: decode this part only."),
]
Salvage = Annotated[
    bool,
    typer.Option("--salvage", help="Damaged sound: silence where it is damaged."),
]

# --- eval ------------------------------------------------------------------------

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
        help="jpeg,webp,avif,jxl,jpeg2000 or opus,opus-vbr,codec2 unless told; "
        "'' for none.",
    ),
]
Qualities = Annotated[
    str | None, typer.Option(metavar="Q,Q,...", help="Settings of our codecs.")
]
TargetBpps = Annotated[
    str | None, typer.Option(metavar="F,F,...", help="Rates instead of qualities.")
]
TargetRates = Annotated[
    str | None,
    typer.Option(
        "--target-kbps",
        metavar="F,F,...",
        help="Sound: rates in kbit/s instead of qualities.",
    ),
]
Measures = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,...", help="Sound: pesq_wb,pesq_nb,stoi,visqol,si_sdr,mel."
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
        metavar="PICTURE", help="In the crops of the report; one by rule unless told."
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
Limit = Annotated[
    int | None, typer.Option(metavar="N", help="The first N pictures only.")
]

# --- bench -----------------------------------------------------------------------

BenchCodecs = Annotated[
    list[str] | None,
    typer.Option("--codec", metavar="NAME...", help="NAME@RUN too. All unless told."),
]
BenchInput = Annotated[
    str | None,
    typer.Option("--input", metavar="FILE", help="Codecs: code this, in one piece."),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Codecs: of networks and coder.")
]
Symbols = Annotated[
    int | None,
    typer.Option(metavar="N", help="Coder: of each load; 491520, a photo's."),
]
Repeats = Annotated[
    int | None,
    typer.Option(metavar="K", help="Calm rounds that end it; coder 12, codec 3."),
]
