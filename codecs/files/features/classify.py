# SPDX-License-Identifier: Apache-2.0
"""Files of features in, classes out: what runs on the server.

    photo.plc ─ header ─ weights by name and digest ─ whole numbers ─ g_s ─ head

The whole numbers are the encoder's on every machine, or an error says that they are
not. What the network makes of them are floats: probabilities may differ in their last
digits from one machine to another.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from polycodec.codecs import zoo
from polycodec.codecs.families.feature import FeatureCodec
from polycodec.codecs.files.container.file import FeatureGeometry, Reader, open_plc
from polycodec.codecs.files.ends import Given, codec_of
from polycodec.codecs.files.features.encode import check_many, seal_of, told_which
from polycodec.codecs.files.options import ClassifyOptions, options_of
from polycodec.codecs.files.results import Classified
from polycodec.codecs.files.sources import Source, name_of
from polycodec.errors import ModelError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec


def classify(input: Source, *, codec: Given = None, **options: Any) -> Classified:
    """Tell what is in a picture, by the features that a ``.plc`` file holds of it.

    ``top``: classes that are told. ``codec``: an already loaded one. Of many files:
    `classify_all`. Raises the errors of `polycodec.errors`, InputError for a file of
    anything else.
    """
    started, chosen = time.perf_counter(), options_of(ClassifyOptions, options)
    with open_plc(input) as reader:
        _check(reader)
        used = _reading(codec_of(reader.header, chosen, codec))
        [row] = classify_all([reader], used)
        size, name = reader.file_size, reader.header.model
    order = row.argsort(descending=True)[: chosen.top].tolist()
    return Classified(
        input=name_of(input),
        output="",
        model=name,
        seconds=time.perf_counter() - started,
        bytes=size,
        classes={used.labels[k]: float(row[k]) for k in order},
    )


def classify_all(files: Iterable[Source | Reader], codec: FeatureCodec) -> Tensor:
    """Probabilities (n, classes) of what is in n pictures, computed together.

    files: of one model, ``codec``'s; those of one quality are one batch. Classes are in
    the order of ``codec.labels``.
    """
    alike: dict[float, list[tuple[int, bytes, bytes]]] = {}
    files = check_many(files, codec)
    for k, file in enumerate(files):
        with told_which(k, files):
            chunk, seal, quality = _opened(file, codec)
        alike.setdefault(quality, []).append((k, chunk, seal))
    answers = torch.empty(len(files), len(_reading(codec).labels))
    with torch.inference_mode():
        for quality, items in alike.items():
            places, chunks, seals = zip(*items, strict=True)
            level = codec.level_of(quality)
            codes = codec.read(chunks, level, codec.positions, context=seals)
            found = codec.decode_codes(codes, level).softmax(1).cpu()
            answers[list(places)] = found
    return answers


def _opened(file: Source | Reader, codec: Codec) -> tuple[bytes, bytes, float]:
    """Stream, seal and quality of a file."""
    if not isinstance(file, Reader):
        with open_plc(file) as reader:
            return _opened(reader, codec)
    geometry = _check(file)
    zoo.check_digest(file.header.model, codec.digest, file.header.digest)
    quality = file.header.quality
    return file.chunk(0), seal_of(geometry, quality), quality


def _check(reader: Reader) -> FeatureGeometry:
    expected = "features, as polycodec features makes them; see polycodec decode"
    return reader.geometry(FeatureGeometry, expected)


def _reading(codec: Codec) -> FeatureCodec:
    if not isinstance(codec, FeatureCodec):
        raise ModelError(f"'{codec.name}' has no classifier; expected one of features")
    return codec
