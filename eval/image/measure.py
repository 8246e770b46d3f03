# SPDX-License-Identifier: Apache-2.0
"""The measuring loop and its log: one line of JSON per picture and setting.

    key = (pixels, subject, setting, what its bytes depend on, rules of metrics)

A line is written and flushed as soon as it is known. When a run is started
again, lines with an equal key are taken from the log and nothing is coded
twice; a changed version, option, weight or pixel changes the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from polycodec.codecs.measures import image as measures
from polycodec.errors import CodecError, InputError
from polycodec.eval.image.subjects import Measurable, Subject

RESULTS = "results.jsonl"  # the log's name in a run's folder


@dataclass(frozen=True)
class Row:
    """What is known about one picture, one subject and one setting."""

    key: str
    image: str
    width: int
    height: int
    codec: str
    kind: str
    control: str
    setting: float
    bytes: int
    bpp: float  # bits of the whole file per pixel
    estimated_bpp: float | None  # the model's own estimate, where it has one
    psnr: float  # dB
    ms_ssim: float | None
    ms_ssim_db: float | None
    note: str | None  # why a value is missing
    encode_seconds: float
    decode_seconds: float


def fingerprint(subject: Measurable, **more: Any) -> str:
    """Digest everything except signal and setting that decides a result.

    ``more``: what else does, beside name, control and versions of the subject.
    """
    about = {
        "name": subject.name,
        "control": subject.control,
        "versions": subject.versions(),
        **more,
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def row_key(pixels_digest: str, print_: str, setting: float) -> str:
    """Name one measurement: picture, subject's fingerprint, setting."""
    return f"{pixels_digest}-{print_}-{setting:g}"


def measure(
    subject: Subject,
    pixels: np.ndarray,
    setting: float,
    *,
    image: str,
    key: str,
) -> Row:
    """Code one (H, W, 3) uint8 picture into bytes, decode them, and compare."""
    with naming(subject, setting, image, "picture"):
        coded = subject.compress(pixels, setting)
        decoded = subject.decompress(coded.data)
        psnr = measures.psnr(pixels, decoded.picture)
        ms_ssim, note = measures.ms_ssim(pixels, decoded.picture)
    height, width = pixels.shape[:2]
    return Row(
        key=key,
        image=image,
        width=width,
        height=height,
        codec=subject.name,
        kind=subject.kind,
        control=subject.control,
        setting=float(setting),
        bytes=len(coded.data),
        bpp=8 * len(coded.data) / (width * height),
        estimated_bpp=coded.estimated_bpp,
        psnr=psnr,
        ms_ssim=ms_ssim,
        ms_ssim_db=measures.decibel(ms_ssim),
        note=note,
        encode_seconds=coded.seconds,
        decode_seconds=decoded.seconds,
    )


@contextlib.contextmanager
def naming(
    subject: Measurable, setting: float, file: str, signal: str
) -> Iterator[None]:
    """Errors of a coding say the subject, its setting and the file they are of."""
    where = f"{subject.name} at {subject.control} {setting:g} on {file}"
    try:
        yield
    except CodecError as error:
        # The class decides the exit code: keep it, and say where it happened.
        raise type(error)(f"{where}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{where} failed: {error}; expected bytes and the {signal} back; leave "
            f"this codec or {signal} out"
        ) from error


class Log:
    """The results of a run on disk, and what earlier runs left there.

    ``kind``: the dataclass of a line; those of sound are others.
    """

    def __init__(self, path: pathlib.Path, kind: type = Row) -> None:
        self.path, self.kind = path, kind
        self.rows: dict[str, Any] = {}
        if path.is_file():
            self._read()

    def add(self, row: Any) -> None:
        """Append one row, on disk before the call returns."""
        self.rows[row.key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            # A killed run left half a line: that measurement is made again.
            with self.path.open("r+b") as file:
                file.truncate(whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                fields: dict[str, Any] = json.loads(line)
                row = self.kind(**fields)
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{self.path}, line {number}, is not a result ({error}); expected "
                    "one JSON object per line; remove the line or the file"
                ) from error
            self.rows[row.key] = row


def earlier(folders: Sequence[str | pathlib.Path], kind: type = Row) -> dict[str, Any]:
    """Rows by key that earlier evaluations left in ``folders``; they must be there."""
    known: dict[str, Any] = {}
    for folder in folders:
        path = pathlib.Path(folder) / RESULTS
        if not path.is_file():
            raise InputError(
                f"no results to reuse in {folder}; expected {RESULTS}; name the output "
                "folder of an earlier evaluation"
            )
        known.update(Log(path, kind).rows)
    return known
