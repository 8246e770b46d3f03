# SPDX-License-Identifier: Apache-2.0
"""CRC-32C of planes that lie on a device, without bringing them to the host.

    check = BatchChecksum(B, device)
    check.update(indexes)            # (B, n) uint8, pass by pass; does not wait
    check.values()                   # B numbers, those of crc32c over all passes

A raw CRC is linear over GF(2). Segments are taken side by side and each is moved to
its place by a power of x, so sums meet in any order (the kernel `checksum`):

    raw(plane) = Σ raw(segment) * x^(8 * bytes after it)        modulo the polynomial
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.cuda.device import layouts
from polycodec.cuda.host.checksum import POLYNOMIAL
from polycodec.errors import InputError

if TYPE_CHECKING:
    from polycodec.cuda.device.driver import Device

_SEGMENT = 256  # bytes of a thread, as the kernel has it
_TABLE_BYTES = 1024
_ALL = 0xFFFFFFFF


class BatchChecksum:
    """Running checksums of B streams, on the device."""

    def __init__(self, batch: int, device: Device) -> None:
        self.batch, self._device = batch, device
        self._states = device.upload(np.full(batch, _ALL, np.uint32))

    def update(self, planes: Any) -> None:
        """Go on over ``planes`` (B, n) uint8; raises InputError for anything else."""
        device = self._device
        planes = device.plane(planes, "planes", copy=False)
        if planes.shape[0] != self.batch or not str(planes.dtype).endswith("uint8"):
            raise InputError(
                f"planes are {planes.dtype} of shape {tuple(planes.shape)}; expected "
                f"uint8 of ({self.batch}, n)"
            )
        n = planes.shape[1]
        if not n:
            return
        after = device.upload(np.zeros(self.batch, np.uint32))
        pointers = map(device.pointer, (planes, self._states, after))
        args = layouts.Checksum(*pointers, n, (ctypes.c_uint32 * 31)(*_powers()))
        blocks = -(-n // (device.threads * _SEGMENT))
        grid = (min(blocks, 1024), self.batch)
        device.launch("checksum", args, grid, device.threads, _TABLE_BYTES)
        self._states = after

    def values(self) -> list[int]:
        """Return the B checksums so far; waits for the device."""
        states = self._device.download(self._states, np.uint32)
        return (states ^ np.uint32(_ALL)).tolist()


@functools.lru_cache(maxsize=1)
def _powers() -> tuple[int, ...]:
    """Return x^(8 * 2^k) modulo the polynomial; the highest bit stands for x^0."""
    found = [1 << (31 - 8)]
    while len(found) < 31:
        found.append(_times(found[-1], found[-1]))
    return tuple(found)


def _times(a: int, b: int) -> int:
    product = 0
    for k in range(32):
        if a >> (31 - k) & 1:
            product ^= b
        b = (b >> 1) ^ (POLYNOMIAL if b & 1 else 0)
    return product
