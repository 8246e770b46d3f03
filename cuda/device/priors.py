# SPDX-License-Identifier: Apache-2.0
"""Priors of a batch on a device: mixture.py and categorical.py for (B, n) symbols.

    prior = BatchMixture(scales, means, indexes, weights)     (B, K, n) each
    prior = BatchCategorical(logits)                          (B, n, A)
    encoder.put_prior(symbols, prior)        symbols = decoder.get_prior(prior)

The tensors lie on the device and nothing here waits for it: the kernels check their
numbers, and the coders' `finish` raises what they found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.cuda.device import layouts
from polycodec.cuda.kept import Kept
from polycodec.cuda.priors.categorical import MAX_VALUES, POWERS
from polycodec.cuda.priors.integer_cdf import PRECISION
from polycodec.cuda.priors.mixture import MAX_COMPONENTS, ScaleSet, phi_table
from polycodec.errors import InputError

if TYPE_CHECKING:
    import ctypes

    from polycodec.cuda.device.chunks import Chunks
    from polycodec.cuda.device.driver import Device


@dataclass(frozen=True, eq=False)
class BatchMixture:
    """The mixtures of (B, n) symbols; numbers as in :class:`Mixture`.

    means: (B, K, n) int32, indexes: (B, K, n) uint8, weights: (B, K, n) int16
    """

    scales: ScaleSet
    means: Any
    indexes: Any
    weights: Any


@dataclass(frozen=True, eq=False)
class BatchCategorical:
    """The distributions of (B, n) symbols over 0 .. A-1; see :class:`Categorical`.

    logits: (B, n, A) int16
    """

    logits: Any


class PriorOnDevice:
    """A prior's tensors and tables as the kernels take them."""

    def __init__(
        self,
        prior: BatchMixture | BatchCategorical,
        batch: int,
        device: Device,
        *,
        copy: bool,
    ) -> None:
        """Check shapes and types; ``copy``: the tensors may change afterwards."""
        key: ScaleSet | _Powers
        if isinstance(prior, BatchMixture):
            self.kind, count, key = "mixture", len(prior.scales), prior.scales
            shape = _shape("means", prior.means, batch)
            self.n, size, most = shape[2], shape[1], MAX_COMPONENTS
            planes = [
                ("means", prior.means, "int32"),
                ("bins", prior.indexes, "uint8"),
                ("weights", prior.weights, "int16"),
            ]
        else:
            self.kind, count, key = "categorical", 0, _POWERS
            shape = _shape("logits", prior.logits, batch)
            self.n, size, most = shape[1], shape[2], MAX_VALUES
            planes = [("logits", prior.logits, "int16")]
        if not 1 <= size <= most:
            raise InputError(f"a {self.kind} has size {size}; expected 1..{most}")
        self._buffers, places = [], {}
        for name, values, kind in planes:
            if tuple(values.shape) != shape:
                raise InputError(
                    f"{name} have shape {tuple(values.shape)}; expected {shape}"
                )
            flat = values.reshape(batch, shape[1] * shape[2])
            plane = device.plane(flat, name, copy=copy, kinds=(kind,))
            self._buffers.append(plane)
            places[name] = device.pointer(plane)
        data = _on_device(key, device)
        self._buffers.append(data)
        self._device, self._shared = device, _blob(key).nbytes
        self._parts = layouts.PriorParts(**places, size=size)
        numbers = (self._shared // 16, PRECISION, count, 0, 0, 0)
        self._blob = layouts.TableBlob(device.pointer(data), *numbers)

    def survey(self, symbols: Any, found: Any) -> tuple[str, ctypes.Structure]:
        """Return the survey's kernel and arguments."""
        pointer = self._device.pointer
        parts = (self._blob, self._parts, pointer(found), self.n)
        return f"survey_{self.kind}", layouts.PriorSurvey(pointer(symbols), *parts)

    def code(self, way: str, chunks: Chunks, symbols: Any) -> None:
        """Launch one pass: ``way`` is "encode" or "decode"."""
        if self.n:
            kernel, tables = f"{way}_{self.kind}", (self._blob, self._shared)
            chunks.code(kernel, *tables, symbols, symbols, self._parts)

    def not_codable(self, symbol: int) -> str:
        """Return the message for a symbol that a survey has refused."""
        return (
            f"symbol {symbol} cannot be coded, or its {self.kind} is no distribution; "
            "16 bits or the alphabet must hold it, weights must have the sum 256, "
            "means and indexes must be in range"
        )


def _shape(name: str, values: Any, batch: int) -> tuple[int, ...]:
    shape = tuple(getattr(values, "shape", ()))
    if len(shape) != 3 or shape[0] != batch:
        raise InputError(
            f"{name} have shape {shape}; expected three axes, {batch} first"
        )
    if shape[1] * shape[2] > layouts.MAX_SYMBOLS:
        raise InputError(
            f"{name} have shape {shape}; a device takes at most {layouts.MAX_SYMBOLS} "
            "numbers for each stream"
        )
    return shape


class _Powers:
    """Stands for POWERS where scales stand for a mixture's tables."""


_POWERS = _Powers()
_TABLES: Kept[Kept[Any]] = Kept()  # by device, then by scales and stream


def _blob(key: ScaleSet | _Powers) -> np.ndarray:
    """Return what a kernel brings to shared memory, uint8, a multiple of 16 bytes."""
    if isinstance(key, _Powers):
        return POWERS.view(np.uint8)
    phi = phi_table().tobytes()
    phi += bytes(-len(phi) % 16)
    return np.frombuffer(phi + key.rows.tobytes(), np.uint8)


def _on_device(key: ScaleSet | _Powers, device: Device) -> Any:
    """Return the blob in the device's memory, where it stays."""
    known = _TABLES.get(device, Kept)
    return known.get(key, lambda: device.upload(_blob(key)), device.stream())
