# SPDX-License-Identifier: Apache-2.0
"""The trellis: which path of states comes nearest to some numbers.

    state' = ((state << k) | new) mod 2^L        each step takes k new bits
    V numbers of a step: CODE[state']            of the whole window of L bits

A state's predecessors share their low L - k bits, so of 2^L costs 2^(L-k) least ones
are taken, each for 2^k states. Paths close (their last L - k bits are their first):
a search of the sequence turned by half a turn finds bits for the middle, and a second
one starts and ends with them.

Tseng et al. 2024, "QTIP" (arXiv 2406.11235), sections 3.1 to 3.3: bitshift trellis,
code 1MAD, tail biting. Their codes of two numbers a step come from a table; here the
second number is a second hash, so that there is no table to be stored.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from polycodec.cuda.host import threads
from polycodec.cuda.host.library import library

# BITSTREAM: of the linear congruences whose bytes are summed, one a number of a step.
_HASHES = ((34038481, 76625530), (89226354, 64248484))
SPREAD = 147.8  # the code's standard deviation
_BATCH = 64  # sequences that are searched side by side


@functools.cache
def code(bits: int, numbers: int) -> np.ndarray:
    """Return CODE (2^bits, numbers) int32: sums of four bytes, about Gaussian."""
    state = np.arange(1 << bits, dtype=np.uint64)
    columns = []
    for a, b in _HASHES[:numbers]:
        x = (state * np.uint64(a) + np.uint64(b)).astype(np.uint32)
        columns.append(x.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int32))
    table = np.stack(columns, axis=1) - 510
    table.flags.writeable = False
    return table


def search(x: np.ndarray, bits: int, new: int, numbers: int) -> np.ndarray:
    """Return the new bits (n, T / V) uint8 of closed paths near x (n, T) float32.

    ``bits``: L; ``new``: k; ``numbers``: V. x: in units of the code.
    """
    found = library()
    x = np.ascontiguousarray(x, np.float32)
    if found is not None and found.trellis is not None:
        out = np.empty((len(x), x.shape[1] // numbers), np.uint8)
        table = code(bits, numbers).astype(np.float32).T.copy()
        found.trellis(
            *(x.ctypes.data, len(x), x.shape[1] // numbers, numbers, bits, new),
            *(table.ctypes.data, out.ctypes.data, threads.count()),
        )
        return out
    batches = np.split(x, range(_BATCH, len(x), _BATCH))
    return np.concatenate([_closed(b, bits, new, numbers) for b in batches])


def states(fresh: np.ndarray, bits: int, new: int) -> np.ndarray:
    """Return the states (n, steps) int32 of closed paths of new bits (n, steps)."""
    state = np.zeros(fresh.shape, np.int32)
    for back in range(-(-bits // new)):
        state |= np.roll(fresh, back, axis=1).astype(np.int32) << (new * back)
    return state & ((1 << bits) - 1)


def _closed(x: np.ndarray, bits: int, new: int, numbers: int) -> np.ndarray:
    """`search` in torch."""
    steps = torch.from_numpy(x).unflatten(1, (-1, numbers))
    table = torch.from_numpy(code(bits, numbers).astype(np.float32))
    half = steps.shape[1] // 2
    path = _viterbi(steps.roll(half, 1), table, bits, new, None)
    ends = path[:, half] >> new
    path = _viterbi(steps, table, bits, new, ends)
    return (path & ((1 << new) - 1)).to(torch.uint8).numpy()


def _viterbi(
    x: torch.Tensor, table: torch.Tensor, bits: int, new: int, ends: torch.Tensor | None
) -> torch.Tensor:
    """Best paths (n, steps) of x (n, steps, V); ends: what they begin and end with."""
    n, steps, _ = x.shape
    few, many = 1 << (bits - new), 1 << new
    free = torch.zeros(n, 1 << bits)
    before = free
    if ends is not None:
        inf = torch.full_like(free, torch.inf)
        before = inf.view(n, few, many).index_put(
            (torch.arange(n), ends), torch.tensor(0.0)
        )
    cost, back = before.view(n, -1), []
    for t in range(steps):
        if t:
            least, which = cost.view(n, many, few).min(1)
            back.append(which.to(torch.uint8))
            cost = least.repeat_interleave(many, 1)
        cost = cost + sum(
            (x[:, t, v, None] - table[:, v]).square_() for v in range(table.shape[1])
        )
    if ends is not None:
        inside = cost.view(n, many, few)[torch.arange(n), :, ends]
        state = inside.argmin(1) * few + ends
    else:
        state = cost.argmin(1)
    path = [state]
    for which in reversed(back):
        low = state >> new
        state = low + which[torch.arange(n), low].long() * few
        path.append(state)
    return torch.stack(path[::-1], 1)
