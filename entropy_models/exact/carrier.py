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
        full = (taps * 104729 % 15 - 7).view(32, 32, kernel, kernel)
        for weight in (full, full[:, :1]):  # of all inputs, and depthwise
            truth = conv_by_matmul(x, weight, bias, 1, kernel // 2)
            for batch in (16, 2, 1):
                part, own = x[:batch].float(), weight.float()
                groups = 32 // weight.shape[1]
                tried = F.conv2d(part, own, None, 1, kernel // 2, 1, groups)
                product = conv_by_matmul(part, own, bias.float(), 1, kernel // 2)
                for result in (tried, product):
                    if not torch.equal(result.double(), truth[:batch]):
                        return False
    return True


def conv_by_matmul(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
) -> Tensor:
    """A convolution that no library may replace by Winograd or FFT.

    Those transform their inputs through fractions and are not exact on integers. The
    weight's shape (O, I / groups, k, k) says how many groups there are.
    """
    k, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
    h = (x.shape[2] + 2 * padding - k) // stride + 1
    columns = F.unfold(x, k, padding=padding, stride=stride)  # (B, I k k, h w)
    columns = columns.unflatten(1, (groups, -1))
    out = weight.flatten(1).unflatten(0, (groups, -1)) @ columns  # (B, g, O / g, h w)
    out = out.flatten(1, 2) + bias[:, None]
    return out.view(x.shape[0], -1, h, out.shape[-1] // h)
