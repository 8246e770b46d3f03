# SPDX-License-Identifier: Apache-2.0
"""The rate that was asked for, and the quality as it is stored in a file's header.

asked(options)                   ("target_bpp", 0.5), or None: a quality
limit_of(request, amounts)       so many bytes at most
stored_quality(62.5)             two bytes, 100 x quality
"""

from __future__ import annotations

from collections.abc import Mapping

from polycodec.codecs.files.options import EncodeOptions
from polycodec.errors import BitstreamError

DEFAULT_QUALITY = 50.0


def asked(options: EncodeOptions) -> tuple[str, float] | None:
    """The option that limits the size and its value; None: a quality is asked."""
    given = ((n, v) for n, v in vars(options).items() if n.startswith("target_"))
    return next(((name, value) for name, value in given if value is not None), None)


def limit_of(request: tuple[str, float], amounts: Mapping[str, float]) -> int:
    """Bytes of the file at most, for what `asked` returns.

    ``amounts``: of each option, bits for one of its unit, such as pixels of the image.
    """
    name, value = request
    return int(value * {"target_size": 8, **amounts}[name] / 8)


def written(request: tuple[str, float]) -> str:
    """The request as it is given on the command line, for messages."""
    name, value = request
    return f"--{name.replace('_', '-')} {value:.10g}"


def stored_quality(quality: float) -> bytes:
    """The parameters of a header: ``quality`` in hundredths.  # BITSTREAM"""
    return round(100 * quality).to_bytes(2, "little")


def quality_of(params: bytes) -> float:
    """The quality that a header's parameters hold; BitstreamError for others."""
    value = int.from_bytes(params, "little")
    if len(params) != 2 or value > 10000:
        raise BitstreamError(
            f"codec parameters are {params.hex()}; expected 2 bytes, 100 x quality"
        )
    return value / 100


def rounded(quality: float) -> float:
    """The quality as a header can hold it."""
    return round(100 * quality) / 100
