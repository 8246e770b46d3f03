# SPDX-License-Identifier: Apache-2.0
"""The commands about files: encode, decode, info, verify.

    polycodec encode photo.png -q 60           ->  photo.plc
    polycodec decode photo.plc -o back.png
    polycodec encode talk.flac --target-kbps 3 ->  talk.plc
    polycodec encode photos/ -o packed         ->  the tree of photos/, in packed/
    cat photo.png | polycodec encode - > photo.plc

torch is loaded when the first file is really coded, not before: a wrong path or a
wrong option is answered at once, and info and verify never need it.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import typer

from polycodec.cli import batch as cli_batch
from polycodec.cli.options import (
    Alpha,
    AsJson,
    Channels,
    Checkpoint,
    Device,
    Effort,
    Files,
    Force,
    Inputs,
    MinPsnr,
    Model,
    Output,
    Psnr,
    Quality,
    Region,
    Salvage,
    Seconds,
    TargetBpp,
    TargetKbps,
    TargetSize,
    Tile,
)
from polycodec.cli.paths import STREAM, Job, plan
from polycodec.cli.values import (
    check_device,
    check_exclusive,
    check_quality,
    parse_region,
    parse_seconds,
    parse_size,
    readable,
)
from polycodec.errors import InputError, ModelError, UsageError


def encode(
    inputs: Inputs,
    output: Output = None,
    model: Model = None,
    quality: Quality = None,
    target_bpp: TargetBpp = None,
    target_kbps: TargetKbps = None,
    target_size: TargetSize = None,
    min_psnr: MinPsnr = None,
    effort: Effort = 0,
    tile: Tile = None,
    alpha: Alpha = "lossless",
    channels: Channels = "mix",
    device: Device = "auto",
    checkpoint: Checkpoint = None,
    psnr: Psnr = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Code images and sound into .plc files."""
    check_exclusive(
        {
            "-q": quality,
            "--target-bpp": target_bpp,
            "--target-kbps": target_kbps,
            "--target-size": target_size,
            "--min-psnr": min_psnr,
        }
    )
    check_quality(quality)
    check_device(device)
    options: dict[str, Any] = {
        "quality": quality,
        "target_bpp": target_bpp,
        "target_kbps": target_kbps,
        "target_size": None if target_size is None else parse_size(target_size),
        "min_psnr": min_psnr,
        "effort": effort,
        "tile": tile,
        "alpha": alpha,
        "channels": channels,
        "device": device,
        "checkpoint": checkpoint,
        "psnr": psnr,
        "model": model,
    }
    jobs = plan(inputs, output, suffix=".plc", accept=_media_suffixes())
    loaded: dict[str, Any] = {}

    def work(k: int, tick: cli_batch.Tick) -> tuple[str, dict[str, Any]]:
        if len(jobs) > 1:
            options["codec"] = _codec_for(jobs[k].input, options, loaded)
        result = _run("encode", jobs[k], options, force, tick)
        unit = "kbps" if "kbps" in result else "bpp"
        rate = f"{readable(result['bytes'])}  {result[unit]:.3f} {unit}"
        rate += f"  q {result['quality']:g}{_decibel(result)}"
        line = f"{_arrow(jobs[k])}  {rate}  {result['seconds']:.1f} s{_said(result)}"
        return line, result

    _finish(jobs, work, as_json, "encoding", fatal=(UsageError, ModelError))


def decode(
    inputs: Inputs,
    output: Output = None,
    region: Region = None,
    seconds: Seconds = None,
    salvage: Salvage = False,
    device: Device = "auto",
    checkpoint: Checkpoint = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn .plc files back into images and sound, the format by the suffix of OUT."""
    check_device(device)
    options = {
        "region": None if region is None else parse_region(region),
        "seconds": None if seconds is None else parse_seconds(seconds),
        "salvage": salvage,
        "device": device,
        "checkpoint": checkpoint,
    }
    jobs = plan(inputs, output, suffix=_decoded_suffix, accept=(".plc",))
    loaded: dict[tuple[str, str], Any] = {}

    def work(k: int, tick: cli_batch.Tick) -> tuple[str, dict[str, Any]]:
        if len(jobs) > 1:
            options["codec"] = _codec_of(jobs[k].input, device, checkpoint, loaded)
        result = _run("decode", jobs[k], options, force, tick)
        size = _size(result)
        return (
            f"{_arrow(jobs[k])}  {size}  {result['seconds']:.1f} s{_said(result)}",
            result,
        )

    _finish(jobs, work, as_json, "decoding", fatal=(UsageError,))


def info(
    files: Files,
    as_json: AsJson = False,
) -> None:
    """Show header, metadata, chunks and rates; reads the header only."""
    from polycodec.cli.card import card
    from polycodec.codecs.files.container import inspect

    def work(k: int, tick: cli_batch.Tick) -> tuple[str, dict[str, Any]]:
        values = inspect.info(files[k])
        return card(values), values

    code = cli_batch.run(files, work, as_json=as_json, verb="reading")
    raise typer.Exit(code)


def verify(
    files: Files,
    as_json: AsJson = False,
) -> None:
    """Check every chunk and record; exit code 4 when a file is damaged."""
    from polycodec.codecs.files.container import inspect

    def work(k: int, tick: cli_batch.Tick) -> tuple[str, dict[str, Any]]:
        values = inspect.verify(files[k])
        counts = f"{values['chunks']} chunks, {values['records']} records"
        return f"{files[k]}: whole  {counts}  {readable(values['bytes'])}", values

    code = cli_batch.run(files, work, as_json=as_json, verb="checking")
    raise typer.Exit(code)


def _run(
    verb: str, job: Job, options: dict[str, Any], force: bool, tick: cli_batch.Tick
) -> dict[str, Any]:
    """Call encode or decode of the Python API for one job; returns its result."""
    _check_input(job.input)
    source = sys.stdin.buffer if job.input == STREAM else job.input
    made = _make_folder(job.folder)
    try:
        if job.output != STREAM:
            from polycodec.codecs.files.atomic import check_target

            check_target(job.output, force=force)
        from polycodec.codecs.files import api

        target = sys.stdout.buffer if job.output == STREAM else job.output
        call = getattr(api, verb)
        result = call(source, target, force=force, progress=tick, **options)
        if job.output == STREAM:
            sys.stdout.buffer.flush()
    except BaseException:
        _remove_folders(made)
        raise
    values = {**vars(result), "input": job.input, "output": job.output}
    if "duration" in values:
        for note in result.notes:
            print(f"polycodec: {job.input}: {note}", file=sys.stderr)
    return {k: _plain(v) for k, v in values.items() if v is not None or k == "output"}


def _finish(
    jobs: list[Job], work: cli_batch.Work, as_json: bool, verb: str, fatal: Any
) -> None:
    """Run all jobs; what is said goes to stderr when stdout carries the file."""
    streams = jobs[0].output == STREAM
    if streams and sys.stdout.isatty():
        raise UsageError("standard output is a terminal; name a file with -o or use >")
    code = cli_batch.run(
        [job.input for job in jobs],
        work,
        as_json=as_json,
        verb=verb,
        fatal=fatal,
        aside=streams,
    )
    raise typer.Exit(code)


def _codec_of(
    path: str, device: str, checkpoint: str | None, loaded: dict[tuple[str, str], Any]
) -> Any:
    """Load the codec that a file asks for, each only once."""
    from polycodec.codecs import zoo
    from polycodec.codecs.files.container import inspect

    header = inspect.info(path)
    key = header["model"], header["digest"]
    if key not in loaded:
        digest = bytes.fromhex(header["digest"])
        loaded[key] = zoo.load(
            header["model"], device, checkpoint=checkpoint, digest=digest
        )
    return loaded[key]


def _codec_for(path: str, options: dict[str, Any], loaded: dict[str, Any]) -> Any:
    """Load the codec of an input's kind: one serves all files of the kind."""
    from polycodec.codecs import zoo
    from polycodec.codecs.files.kinds import kind_of

    name = options["model"] or f"{kind_of(path)}/default"
    if name not in loaded:
        loaded[name] = zoo.load(
            name, options["device"], checkpoint=options["checkpoint"]
        )
    return loaded[name]


def _media_suffixes() -> tuple[str, ...]:
    from polycodec.codecs.files.image.read import FORMATS
    from polycodec.codecs.files.speech.read import SUFFIXES

    return (*FORMATS, *SUFFIXES)


def _decoded_suffix(path: str) -> str:
    """What a .plc file becomes unless told: sound a .wav, all else a .png."""
    from polycodec.codecs.files.kinds import stored_kind

    return ".wav" if stored_kind(path) == "speech" else ".png"


def _check_input(name: str) -> None:
    if name != STREAM and not os.path.exists(name):
        raise InputError(f"no such file: {name}; check the path")


def _make_folder(folder: str | None) -> list[Path]:
    """Create ``folder`` with its parents; returns the new ones, deepest first."""
    if folder is None:
        return []
    path = Path(folder)
    new = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return new


def _remove_folders(made: list[Path]) -> None:
    for folder in made:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _plain(value: Any) -> Any:
    """JSON knows no infinity: the PSNR of equal pictures becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _decibel(result: dict[str, Any]) -> str:
    if "psnr" not in result:
        return ""
    return f"  PSNR {math.inf if result['psnr'] is None else result['psnr']:.2f} dB"


def _arrow(job: Job) -> str:
    return f"{job.input} -> {job.output}"


def _size(result: dict[str, Any]) -> str:
    if "width" in result:
        return f"{result['width']}x{result['height']}"
    return f"{result['duration']:.2f} s of {result['rate']} Hz"


def _said(result: dict[str, Any]) -> str:
    if "duration" in result:  # of sound they stand on standard error
        return ""
    return "".join(f"\n  note: {note}" for note in result["notes"])
