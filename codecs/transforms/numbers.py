# SPDX-License-Identifier: Apache-2.0
"""Numbers that are none, refused by whom they came from: user, codes or network."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from polycodec.errors import InputError, ModelError, UsageError


def check_quality(quality: float) -> float:
    """The quality; UsageError for what is no number of 0 … 100."""
    if not isinstance(quality, numbers.Real) or not 0 <= quality <= 100:
        raise UsageError(f"quality is {quality!r}; expected 0 to 100")
    return quality


def check_finite(codes: Tensor) -> None:
    """InputError for codes that are no tensor, or hold NaN or infinite numbers."""
    if not isinstance(codes, Tensor):
        raise InputError(f"the codes are a {type(codes).__name__}; expected a tensor")
    if codes.is_floating_point() and not bool(codes.isfinite().all()):
        raise InputError(
            "codes hold NaN or infinite numbers; expected numbers as encode_codes "
            "gives them"
        )


def real(x: Tensor) -> Tensor:
    """x in float32, or as it is where it has twice the digits already."""
    return x if x.dtype == torch.float64 else x.float()


def made_by(name: str, made: Tensor) -> Tensor:
    """What the transform of a codec made; ModelError for NaN or infinite numbers."""
    if not bool(made.isfinite().all()):
        found = "NaN" if bool(made.isnan().any()) else "infinite numbers"
        raise ModelError(
            f"the transform of '{name}' gave {found}; expected numbers; this signal "
            "cannot be coded with these weights; train them again, or take another "
            "model"
        )
    return made


def check_precision(own: torch.dtype) -> None:
    """Refuse what would end in a wrong decoding; ``own``: type of a codec's weights."""
    for what, dtype in (
        ("torch's default type", torch.get_default_dtype()),
        ("the type of the codec's weights", own),
    ):
        if dtype != torch.float32:
            raise UsageError(
                f"{what} is {dtype}; expected torch.float32; a codec codes in its "
                "own precisions (load it again), autocast may be on"
            )
