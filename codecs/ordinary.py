# SPDX-License-Identifier: Apache-2.0
"""Methods that run in inference mode and hand back ordinary tensors.

codec.decompress(data)     no graph is kept inside; the result can be trained on
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor


@dataclass
class Coded:
    """What writing yields: bytes and estimated bits of each item of the batch, and the
    codes (B, C, *S) that a decoder will have."""

    data: list[bytes]
    codes: Tensor
    estimated_bits: list[float]


Given = ParamSpec("Given")
Made = TypeVar("Made")


def ordinary(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Run a method in inference mode, and hand back tensors that can be trained on."""

    @functools.wraps(function)
    def run(*args: Given.args, **options: Given.kwargs) -> Made:
        if torch.is_inference_mode_enabled():
            return function(*args, **options)
        with torch.inference_mode():
            result: Any = function(*args, **options)
        if isinstance(result, Coded):
            return cast(Made, replace(result, codes=result.codes.clone()))
        if isinstance(result, list):  # of bytes, or of tensors
            result = [x.clone() if isinstance(x, Tensor) else x for x in result]
        return cast(Made, result.clone() if isinstance(result, Tensor) else result)

    return run
