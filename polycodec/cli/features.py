# SPDX-License-Identifier: Apache-2.0
"""The commands features and classify: a picture's features, and what is in it.

polycodec features photo.jpg -o photo.plc       on the device that has the camera
polycodec classify photo.plc                    where the network is
polycodec features photos/ -o packed            the tree of photos/, in packed/
"""

from __future__ import annotations

from typing import Any

from polycodec.cli import batch
from polycodec.cli.failure import printable
from polycodec.cli.options import (
    AsJson,
    Files,
    Inputs,
    Output,
    SkipExisting,
    flags,
    values_of,
)
from polycodec.codecs.files import jobs
from polycodec.codecs.files.folders import expand
from polycodec.codecs.files.kinds import is_plc, kind_of, recognised, stored_kind
from polycodec.codecs.files.loader import Loader
from polycodec.codecs.files.options import ClassifyOptions, CodingOptions
from polycodec.errors import ModelError, UsageError
from polycodec.progress import Tick


@flags(CodingOptions)
def features(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Code what a classifier reads of pictures; no picture comes back."""
    given = values_of(options, CodingOptions)
    planned = jobs.plan(inputs, output, suffix=".plc", refuse=_no_picture, made=is_plc)
    loader = Loader()

    def call(job: jobs.Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files.features import encode

        return encode.features(source, target, codec=loader, **given)

    batch.convert(
        planned,
        call,
        as_json=as_json,
        verb="encoding",
        force=options["force"],
        skip=skip_existing,
        fatal=(UsageError, ModelError),
    )


@flags(ClassifyOptions)
def classify(files: Files, as_json: AsJson = False, **options: Any) -> None:
    """Tell what is in pictures, by files of their features."""
    given = values_of(options, ClassifyOptions)
    found, left = expand(files, _no_features)
    names = [str(path) for path in found]
    loader = Loader()

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        from polycodec.codecs.files.features import classify

        source = batch.source_of(names[k])
        result = classify.classify(source, codec=loader, **given)
        result.input = names[k]
        return printable(result.line()), result.as_dict()

    batch.run(names, work, as_json=as_json, verb="classifying", left=left)


def _no_picture(path: str) -> str | None:
    """Why a file of a folder is not taken."""
    if stored_kind(path) is not None:
        return "a .plc file already"
    return None if recognised(path) and kind_of(path) == "image" else "no picture"


def _no_features(path: str) -> str | None:
    return None if stored_kind(path) == "features" else "no file of features"
