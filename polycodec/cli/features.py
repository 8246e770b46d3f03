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
from polycodec.codecs.files.kinds import stored_kind
from polycodec.codecs.files.loader import Loader
from polycodec.codecs.files.options import ClassifyOptions, FeatureOptions
from polycodec.progress import Tick


@flags(FeatureOptions)
def features(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Code what a classifier reads of pictures; no picture comes back."""
    given = values_of(options, FeatureOptions)
    planned = jobs.encoding(inputs, output, only="image")
    loader = Loader()

    def call(job: jobs.Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files.features import encode

        return encode.features(source, target, codec=loader, **given)

    force = options["force"]
    batch.encode(planned, call, as_json=as_json, force=force, skip=skip_existing)


@flags(ClassifyOptions)
def classify(files: Files, as_json: AsJson = False, **options: Any) -> None:
    """Tell what is in pictures, by files of their features."""
    given = values_of(options, ClassifyOptions)
    names, left = expand(files, _no_features)
    loader = Loader()

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        from polycodec.codecs.files.features import classify

        source = batch.source_of(names[k])
        result = classify.classify(source, codec=loader, **given)
        result.input = names[k]
        return printable(result.line()), result.as_dict()

    batch.run(names, work, as_json=as_json, verb="classifying", left=left)


def _no_features(path: str) -> str | None:
    kind = stored_kind(path)
    damaged = kind is None and path.lower().endswith(".plc")  # its turn says how
    return None if kind == "features" or damaged else "no file of features"
