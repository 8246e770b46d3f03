# SPDX-License-Identifier: Apache-2.0
"""Which floats carry the integers of an exact layer: float32 only where it is whole.

float64 is spared by every library's shortcuts. float32 is twice as fast, but some
settings of torch round its inputs or transform them through fractions; whether they do
is tried once for each setting.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def float32_is_whole() -> bool:
    """Whether float32 sums keep integers below 2^24 under the settings of now."""
    return _float32_is_whole(_settings())


def _settings() -> tuple:
    """What may change how this process convolves in float32."""
    mkldnn = torch.backends.mkldnn
    parts = (getattr(mkldnn, name, None) for name in ("conv", "matmul"))
    precisions = [getattr(part, "fp32_precision", None) for part in parts]
    try:
        precisions.append(torch.get_float32_matmul_precision())
    except RuntimeError:  # old and new settings were mixed: the new ones hold
        precisions.append(None)
    return mkldnn.enabled, *precisions


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Compute without oneDNN; mkldnn.flags would set TF32 as well, and warn of it."""
    mkldnn = torch.backends.mkldnn
    before = mkldnn.enabled
    # torch's stub shows the descriptor behind the property, not the bool it takes.
    mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        mkldnn.enabled = before


@functools.lru_cache
def _float32_is_whole(settings: tuple) -> bool:
    """Try whether float32 sums keep integers below 2^24, once per setting.

    They do not everywhere. Measured with torch 2.11 on x86: without oneDNN a batch of
    16 goes to NNPACK, which uses Winograd; ONEDNN_DEFAULT_FPMATH_MODE=BF16 or
    mkldnn.conv.fp32_precision = "bf16" rounds the inputs. float64 is spared.
    """
    count = torch.arange(16 * 32 * 12 * 12, dtype=torch.float64)
    x = (count * 7919 % 4095 - 2047).view(16, 32, 12, 12)
    bias = torch.zeros(32, dtype=torch.float64)
    for kernel in (1, 3, 5):
        taps = count[: 32 * 32 * kernel * kernel]
        weight = (taps * 104729 % 15 - 7).view(32, 32, kernel, kernel)
        truth = conv_by_matmul(x, weight, bias, 1, kernel // 2)
        for batch in (16, 2, 1):
            tried = F.conv2d(x[:batch].float(), weight.float(), None, 1, kernel // 2)
            columns = F.unfold(x[:batch].float(), kernel, padding=kernel // 2)
            product = _matmul(columns, weight.float(), bias.float()).view(tried.shape)
            for result in (tried, product):
                if not torch.equal(result.double(), truth[:batch]):
                    return False
    return True


def conv_by_matmul(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
) -> Tensor:
    """A convolution that no library may replace by Winograd or FFT.

    Those transform their inputs through fractions and are not exact on integers.
    """
    k = weight.shape[-1]
    h = (x.shape[2] + 2 * padding - k) // stride + 1
    columns = F.unfold(x, k, padding=padding, stride=stride)  # (B, C k k, h w)
    out = _matmul(columns, weight, bias)
    return out.view(x.shape[0], -1, h, out.shape[-1] // h)


def _matmul(columns: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, I k k, n) columns -> (B, O, n)."""
    return weight.flatten(1) @ columns + bias[:, None]
