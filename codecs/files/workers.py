# SPDX-License-Identifier: Apache-2.0
"""Encoders and decoders for the workers of other programs: many processes and machines.

    encoder = polycodec.Encoder("image/default", 60)
    encoder("photo.png")                      the bytes of its .plc file
    jobs = encoder.jobs("s3://in", "s3://out")         what is not done yet
    rows = [encoder.do(job) for job in jobs]           here, or wherever it is sent

An object holds a name and options, so that it is pickled in few bytes; weights are
loaded once in each process, when the first work comes. Files are written whole, and
what is there is not done again: after an end of any kind, whoever asks for `jobs` again
gets the rest.
"""

from __future__ import annotations

import abc
import contextlib
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polycodec import places
from polycodec.codecs import zoo
from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import open_plc
from polycodec.codecs.files.ends import Target
from polycodec.codecs.files.jobs import Plan, decoding, encoding
from polycodec.codecs.files.keywords import DecodeKeywords, EncodeKeywords
from polycodec.codecs.files.kinds import KINDS, kind_named
from polycodec.codecs.files.loader import SHARED
from polycodec.codecs.files.options import Options, check_name, choose, merged
from polycodec.codecs.files.results import Decoded, Encoded
from polycodec.codecs.files.sources import Source
from polycodec.errors import CodecError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import numpy as np

_ROW = ("input", "output", "state", "reason", "bytes", "seconds")


class Worker(abc.ABC):
    """What encoders and decoders share: jobs, and what becomes of them."""

    def __init__(self, keywords: type[Options], given: Mapping[str, Any]) -> None:
        self.options = {k: v for k, v in given.items() if v is not None}
        for name in self.options:
            check_name(name, merged([keywords]))
        keywords(**self.options)  # refuses values that cannot be

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({said})"

    @abc.abstractmethod
    def plan(self, inputs: Sequence[str], output: str) -> Plan:
        """What becomes of which file, done or not."""

    @abc.abstractmethod
    def file(self, source: Source, target: Target) -> Encoded | Decoded:
        """Make one file of another; see `polycodec.encode` and `polycodec.decode`."""

    def jobs(
        self, inputs: str | Path | Iterable[str | Path], output: str | Path
    ) -> list[dict[str, str]]:
        """Return what is to be done, a row of ``input`` and ``output`` for each file.

        ``inputs``: files and folders, paths or places such as ``s3://bucket/photos``;
        ``output``: the folder of what is made, with the tree of the inputs. Files whose
        output exists are left out (unless ``force``), and so is what is no input.
        Raises InputError when a folder holds nothing, or a place does not answer.
        """
        given = [inputs] if isinstance(inputs, (str, Path)) else inputs
        plan = self.plan([str(name) for name in given], str(output))
        plan = plan if self.options.get("force") else plan.resumed()
        return [{"input": job.input, "output": job.output} for job in plan.jobs]

    def do(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do one of the `jobs`; what became of it, as a row for a table.

        ``input``, ``output``; ``state``: "done", "there" (it was already, or another
        worker was faster) or "failed"; ``reason`` of a failure, else empty; ``bytes``
        of the output; ``seconds``. The output is there whole or not at all. Raises
        nothing but what stops the process: one file must not end a million others.
        """
        source, target = str(job["input"]), str(job["output"])
        state, reason = "there", ""
        started = time.perf_counter()
        try:
            if self._is_wanted(target):
                if not places.is_far(target):
                    Path(target).parent.mkdir(parents=True, exist_ok=True)
                self.file(source, target)
                state = "done"
        except Exception as error:
            reason = str(error) if isinstance(error, CodecError) else repr(error)
            with contextlib.suppress(CodecError):
                reason = reason if self._is_wanted(target) else ""
            state = "failed" if reason else "there"
        size = 0 if reason else places.size(target)
        told = source, target, state, reason, size, time.perf_counter() - started
        return dict(zip(_ROW, told, strict=True))

    def _is_wanted(self, target: str) -> bool:
        return bool(self.options.get("force")) or not places.exists(target)

    def batch(self, columns: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Do the `jobs` of a table's columns; the columns of their rows, in order.

        For functions that map batches: Ray Data's ``map_batches``, and with a data
        frame of pandas for ``columns`` those of Spark and Dask.
        """
        pairs = zip(columns["input"], columns["output"], strict=True)
        rows = [self.do({"input": i, "output": o}) for i, o in pairs]
        return {name: [row[name] for row in rows] for name in _ROW}


class Encoder(Worker):
    """Encodes what it is called with, in whatever process it finds itself.

    ``model`` (unless told the default of each kind of signal), ``quality`` and all
    other options are those of `polycodec.encode`, and so are the bytes. Raises
    UsageError for options that cannot be, UnknownNameError for a model that is not
    here.
    """

    def __init__(
        self, model: str | None = None, quality: float | None = None, **options: Any
    ) -> None:
        super().__init__(
            EncodeKeywords, {"model": model, "quality": quality, **options}
        )
        if model and not options.get("checkpoint"):
            known = {card["name"]: card["modality"] for card in zoo.models()}
            if model not in known:
                raise UnknownNameError.of("model", model, known)
            if (kind := known[model]) not in KINDS:
                raise UsageError(
                    f"the model '{model}' makes {kind}, of which nothing is decoded; "
                    "expected one of signals; polycodec.features_of takes it"
                )

    def __call__(self, source: Source | np.ndarray) -> bytes:
        """Return the bytes of a ``.plc`` file.

        ``source``: a path or place, an open file, the bytes of one, or the pixels of an
        image, (H, W) or (H, W, 1 | 2 | 3 | 4) of uint8 or uint16: gray, gray and alpha,
        RGB, RGB and alpha. Raises the errors of `polycodec.encode`.
        """
        out = io.BytesIO()
        if hasattr(source, "dtype") and hasattr(source, "shape"):
            source = _file_of(source)
        self.file(source, out)
        return out.getvalue()

    def file(self, source: Source, target: Target) -> Encoded:
        """Encode a file to a file; see `polycodec.encode`."""
        return api.encode(source, target, codec=SHARED, **self.options)

    def plan(self, inputs: Sequence[str], output: str) -> Plan:
        """What becomes of which file, done or not."""
        whole = self.options.get("as_") == "video"
        return encoding(inputs, f"{output}/", whole=whole)


class Decoder(Worker):
    """Decodes what it is called with, in whatever process it finds itself.

    The options are those of `polycodec.decode`; ``format`` such as "webp" or "flac", or
    what each kind is decoded to unless told. The codec is that of the file.
    """

    def __init__(self, format: str | None = None, **options: Any) -> None:
        super().__init__(DecodeKeywords, {"format": format, **options})

    def __call__(self, source: Source) -> bytes:
        """Return the bytes of a PNG, WAV, or whatever ``format`` says.

        ``source``: a path or place, an open ``.plc`` file or its bytes. Raises the
        errors of `polycodec.decode`.
        """
        out = io.BytesIO()
        api.decode(source, out, codec=SHARED, **self.options)
        return out.getvalue()

    def pixels(self, source: Source) -> np.ndarray:
        """Return the pixels of an image, (H, W, 1 or 3) of uint8 or uint16, no alpha.

        ``region`` and ``size`` count. InputError for what is no image.
        """
        from polycodec.codecs.files.image.decode import read_plc

        with open_plc(source) as reader:
            words = kind_named(reader.header.kind).words
            chosen = choose(api.DECODE, words, self.options)
            return read_plc(reader, chosen, codec=SHARED)[0].pixels

    def file(self, source: Source, target: Target) -> Decoded:
        """Decode a file to a file, its format by suffix; see `polycodec.decode`."""
        given = {k: v for k, v in self.options.items() if k != "format"}
        return api.decode(source, target, codec=SHARED, **given)

    def plan(self, inputs: Sequence[str], output: str) -> Plan:
        """What becomes of which file, done or not."""
        return decoding(inputs, f"{output}/", format=self.options.get("format"))


def _file_of(pixels: Any) -> bytes:
    """An image file of pixels, with nothing beside them."""
    from polycodec.codecs.files.image.data import image_of
    from polycodec.codecs.files.image.write import write_image

    image, out = image_of(pixels), io.BytesIO()
    plain = ".pgm" if image.colour == "gray" else ".ppm"
    write_image(image, out, suffix=plain if image.alpha is None else ".png")
    return out.getvalue()
