# SPDX-License-Identifier: Apache-2.0
"""Shared randomness: the same normal samples on every machine, device and thread count.

    words(counter, key)         Philox4x32-10: four 32-bit words of any counter
    normal_table()              n_k = round(4096 Φ⁻¹((k + ½) / 65536)),  k = 0 … 65535
    normals(candidates, d, ...) integers in 1/4096 sigma; any candidate by itself

A sample's number is all that a decoder gets, so it draws that one sample and no other:
the generator has no state, only a counter. Everything here is integers, held in int64
and below 2^49, so that no order of computation matters; the table is of additions,
multiplications and divisions of float64, which are rounded alike everywhere.

Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3" (SC'11);
the constants are those of its Random123, and so are the test vectors.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda.priors.mixture import phi_above_half

# BITSTREAM, all of them
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF
UNIT = 4096  # steps of a normal sample in a sigma
LEVELS = 1 << 16  # of the table: samples reach 4.32 sigma
_REACH = 4.4  # sigma that the table's thresholds reach
GROUP = 8  # samples of 16 bits from the 128 bits of one counter


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low words of a * b, both below 2^32, by parts that fit into 49 bits."""
    low = (a & 0xFFFF) * b
    high = (a >> 16) * b + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def words(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four words, int64 below 2^32, of four words of the counter and two of the key."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _product(a, _MULTIPLIERS[0])
        high1, low1 = _product(c, _MULTIPLIERS[1])
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return a, b, c, d


@functools.cache
def normal_table() -> np.ndarray:
    """The table of the module's docstring, (65536,) int32; its halves are opposite.

    n is where Φ((n - ½) / 4096) <= p < Φ((n + ½) / 4096), Φ by its series.
    """
    thresholds = phi_above_half((np.arange(int(_REACH * UNIT)) + 0.5) / UNIT)
    p = (np.arange(LEVELS // 2) + 0.5) / LEVELS
    half = np.searchsorted(thresholds, p, side="right").astype(np.int32)
    table = np.concatenate([-half[::-1], half])
    table.flags.writeable = False
    return table


@functools.cache
def table_on(device: torch.device) -> Tensor:
    """The table, int64, where samples are made."""
    return torch.from_numpy(normal_table().astype(np.int64)).to(device)


def normals(
    candidates: Tensor, size: int, *, block: int, stream: int, seed: int
) -> Tensor:
    """Normal samples of candidates (n,) of a block: (n, size) int64 in 1/4096 sigma.

    ``seed``: 64 bits; ``stream``: below 2^31, which of several messages this is.
    """
    counters = candidates.to(torch.int64)[:, None]
    groups = torch.arange(-(-size // GROUP), device=candidates.device)[None]
    counters, groups = torch.broadcast_tensors(counters, groups)
    fixed = torch.full_like(groups, block), torch.full_like(groups, stream)
    drawn = torch.stack(words((counters, groups, *fixed), _key(seed)), dim=-1)
    levels = torch.stack([drawn & 0xFFFF, drawn >> 16], dim=-1).flatten(1)
    return table_on(candidates.device)[levels[:, :size]]


def uniforms(count: int, *, block: int, stream: int, seed: int) -> Tensor:
    """Numbers in (0, 1), (count,) float64, that encoders alone need."""
    place = torch.arange(-(-count // 4))
    fixed = torch.full_like(place, block), torch.full_like(place, stream | 1 << 31)
    drawn = words((place, torch.zeros_like(place), *fixed), _key(seed))
    return (torch.stack(drawn, dim=-1).flatten()[:count].double() + 0.5) / 2.0**32


def shuffled(count: int, *, stream: int, seed: int) -> np.ndarray:
    """A permutation of ``count`` numbers, int32."""
    place = torch.arange(count)
    zero = torch.zeros_like(place)
    drawn = words((place, zero, zero - 1 & _MASK, zero + stream), _key(seed))[0]
    return np.argsort(drawn.numpy(), kind="stable").astype(np.int32)


def _key(seed: int) -> tuple[int, int]:
    return seed & _MASK, seed >> 32 & _MASK
