# SPDX-License-Identifier: Apache-2.0
"""Where symbols become bytes: on the host, or on the device that they lie on.

    writer(B, device)     HostWriter  or  DeviceWriter      put, finish
    reader(data, device)  HostReader  or  DeviceReader      get, finish

Tensors on CUDA are coded there (polycodec.cuda.BatchEncoder): a pass is one launch
for the whole batch, and nothing in a decoder's passes waits for the device. All else
is coded on the host, stream by stream. The bytes are the same.

Each stream of a codec begins with the CRC-32C of what was computed on the way, means
and table indexes: HASH_BYTES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import (
    BatchChecksum,
    BatchDecoder,
    BatchEncoder,
    BatchMixture,
    Mixture,
    StreamDecoder,
    StreamEncoder,
    TableSet,
    crc32c,
    runtime_of,
)
from polycodec.errors import BitstreamError, DeterminismError, TruncatedError

if TYPE_CHECKING:
    from polycodec.cuda import Categorical
    from polycodec.cuda.device.driver import Device
    from polycodec.entropy_models.base import DistributionPrior


class Writer(Protocol):
    """Takes the passes of B streams; see `HostWriter`."""

    def put(
        self,
        symbols: Tensor,
        indexes: Tensor,
        tables: TableSet,
        checked: Tensor | None,
    ) -> None: ...

    def put_prior(self, symbols: Tensor, prior: DistributionPrior) -> None: ...

    def finish(self) -> list[bytes]: ...


class Reader(Protocol):
    """Gives the passes back; see `HostReader`."""

    def get(
        self, indexes: Tensor, tables: TableSet, checked: Tensor | None
    ) -> Tensor: ...

    def get_prior(self, prior: DistributionPrior, shape: tuple[int, ...]) -> Tensor: ...

    def finish(self) -> None: ...


Contexts = bytes | Sequence[bytes]  # of all streams, or one of each
HASH_BYTES = 4  # BITSTREAM: CRC-32C of means and indexes, before each stream


def writer(
    batch: int, device: torch.device | str = "cpu", *, serial: bool = False
) -> Writer:
    """A writer of ``batch`` streams of tensors on ``device``.

    ``serial``: one symbol after the other, so that a reader may cut the passes
    elsewhere; on the host.
    """
    runtime = None if serial else runtime_of(torch.device(device))
    return DeviceWriter(batch, runtime) if runtime else HostWriter(batch, serial)


def reader(
    data: Sequence[bytes],
    device: torch.device | str = "cpu",
    *,
    max_symbols: int | None = None,
    context: Contexts = b"",
) -> Reader:
    """A reader of streams into tensors on ``device``; TruncatedError for too short.

    ``context``: what they may be sealed with, see `sealed`; one for all, or of each.
    """
    for item in data:
        if len(item) < HASH_BYTES:
            raise TruncatedError(
                f"a stream has {len(item)} bytes; expected at least {HASH_BYTES}; "
                "the file is cut"
            )
    runtime = runtime_of(torch.device(device))
    if runtime:
        return DeviceReader(data, runtime, max_symbols, context)
    return HostReader(data, max_symbols, context)


def check_holds(data: Sequence[bytes], bits: float) -> None:
    """BitstreamError for a stream that is too short for what is to be read of it.

    bits: that it cannot do without. Asked before there is memory for what is read.
    """
    for item in data:
        if 8 * len(item) < bits:
            raise BitstreamError(
                f"a stream of {len(item)} bytes cannot hold what its header says; "
                f"expected at least {bits / 8:.0f} bytes; one of them is damaged"
            )


def contexts_of(context: Contexts, count: int) -> Sequence[bytes]:
    """The context of each of ``count`` streams."""
    return [context] * count if isinstance(context, bytes) else context


def seal(stream: bytes, context: bytes) -> int:
    """What a stream's hash is combined with: a CRC of ``context`` and its bytes.

    A wrong context, or a byte that differs, is noticed like a wrong parameter; for no
    byte more, and also where the range coder's end says little.  # BITSTREAM
    """
    return crc32c(stream[HASH_BYTES:], crc32c(context))


def sealed(stream: bytes, context: bytes) -> bytes:
    """A stream whose hash is combined with its `seal`."""
    value = int.from_bytes(stream[:HASH_BYTES], "little") ^ seal(stream, context)
    return value.to_bytes(HASH_BYTES, "little") + stream[HASH_BYTES:]


class HostWriter:
    """Takes the passes of B streams; codes each with the host's range coder."""

    def __init__(self, batch: int, serial: bool = False) -> None:
        self._lanes = 0 if serial else None
        self._streams = [StreamEncoder() for _ in range(batch)]
        self._hashes = [0] * batch

    def put(
        self,
        symbols: Tensor,
        indexes: Tensor,
        tables: TableSet,
        checked: Tensor | None,
    ) -> None:
        """Append a pass: int32 symbols and integer table indexes, (B, C, h, w).

        checked: what decoders must have computed alike, int32 of the same shape, or
        None (`TablePrior.checked`).
        """
        for b, stream in enumerate(self._streams):
            stream.put(_flat(symbols[b]), _flat(indexes[b]), tables)
        if checked is not None:
            _hash_on(self._hashes, checked)

    def put_prior(self, symbols: Tensor, prior: DistributionPrior) -> None:
        """Append a pass of symbols with a distribution each."""
        each = zip(self._streams, symbols, prior.distributions(), strict=True)
        for b, (stream, item, own) in enumerate(each):
            stream.put_prior(_flat(item), own)
            if prior.hashed:
                self._hashes[b] = _checksum(own, self._hashes[b])

    def finish(self) -> list[bytes]:
        """Hash and stream of each."""
        done = [stream.finish(lanes=self._lanes) for stream in self._streams]
        return _join(self._hashes, done)


class HostReader:
    """Gives the passes back, int32, each stream read with the host's range coder."""

    def __init__(
        self, data: Sequence[bytes], max_symbols: int | None, context: Contexts
    ) -> None:
        self._expected, streams = _split(data, context)
        self._hashes, self._older = [0] * len(data), [0] * len(data)
        self._streams = [StreamDecoder(s, max_symbols=max_symbols) for s in streams]

    def get(self, indexes: Tensor, tables: TableSet, checked: Tensor | None) -> Tensor:
        """The next pass, of the shape of ``indexes``; see `HostWriter.put`."""
        out = torch.zeros(indexes.shape, dtype=torch.int32)
        if checked is not None:
            _hash_on(self._hashes, checked)
            _hash_on(self._older, indexes)
        for b, stream in enumerate(self._streams):
            values = stream.get(_flat(indexes[b]), tables)
            out[b] = torch.from_numpy(values).view(out.shape[1:])
        return out

    def get_prior(self, prior: DistributionPrior, shape: tuple[int, ...]) -> Tensor:
        """The next pass of `put_prior`, of ``shape`` (B, ...)."""
        rows = []
        each = zip(self._streams, prior.distributions(), strict=True)
        for b, (stream, own) in enumerate(each):
            if prior.hashed:
                self._hashes[b] = _checksum(own, self._hashes[b])
                self._older[b] = _checksum(own, self._older[b])
            rows.append(torch.from_numpy(stream.get_prior(own)))
        return torch.stack(rows).view(shape)

    def finish(self) -> None:
        """Check hashes and ends."""
        _check_hashes(self._hashes, self._older, self._expected)
        for stream in self._streams:
            stream.finish()


class DeviceWriter:
    """Codes all streams at once, on a device; only `finish` waits for it."""

    def __init__(self, batch: int, runtime: Device) -> None:
        self._encoder = BatchEncoder(batch, runtime)
        self._hash = BatchChecksum(batch, runtime)

    def put(
        self,
        symbols: Tensor,
        indexes: Tensor,
        tables: TableSet,
        checked: Tensor | None,
    ) -> None:
        if checked is not None:
            self._hash.update(_octets(checked.flatten(1)))
        self._encoder.put(symbols.flatten(1), indexes.flatten(1), tables)

    def put_prior(self, symbols: Tensor, prior: DistributionPrior) -> None:
        own = prior.on_device()
        if prior.hashed:
            _update(self._hash, own)
        self._encoder.put_prior(symbols.flatten(1), own)

    def finish(self) -> list[bytes]:
        return _join(self._hash.values(), self._encoder.finish())


class DeviceReader:
    """Reads all streams at once, on a device; only `finish` waits for it."""

    def __init__(
        self,
        data: Sequence[bytes],
        runtime: Device,
        max_symbols: int | None,
        context: Contexts,
    ) -> None:
        self._expected, streams = _split(data, context)
        self._decoder = BatchDecoder(streams, runtime, max_symbols=max_symbols)
        self._hash = BatchChecksum(len(data), runtime)
        self._older = BatchChecksum(len(data), runtime)

    def get(self, indexes: Tensor, tables: TableSet, checked: Tensor | None) -> Tensor:
        planes = indexes.flatten(1)
        if checked is not None:
            self._hash.update(_octets(checked.flatten(1)))
            self._older.update(_octets(planes))
        return torch.as_tensor(self._decoder.get(planes, tables)).view(indexes.shape)

    def get_prior(self, prior: DistributionPrior, shape: tuple[int, ...]) -> Tensor:
        own = prior.on_device()
        if prior.hashed:
            _update(self._hash, own)
            _update(self._older, own)
        return torch.as_tensor(self._decoder.get_prior(own)).view(shape)

    def finish(self) -> None:
        """Wait for the device; check hashes and ends.

        Streams that run out are said to be cut before other indexes are blamed, as
        the host's reader says so in the middle of decoding.
        """
        try:
            self._decoder.finish()
        except TruncatedError:
            raise
        except BitstreamError:
            self._check()
            raise
        self._check()

    def _check(self) -> None:
        hashes, older = self._hash.values(), self._older.values()
        _check_hashes(hashes, older, self._expected)


def _hash_on(hashes: list[int], planes: Tensor) -> None:
    """Go on with each stream's hash over its plane of (B, ...)."""
    for b, plane in enumerate(planes):
        flat = _flat(plane)
        octets = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
        hashes[b] = crc32c(octets.tobytes(), hashes[b])


def _update(checksum: BatchChecksum, prior: BatchMixture) -> None:
    """Hash a prior's parameters as Mixture.checksum does."""
    for part in (prior.means, prior.indexes, prior.weights):
        checksum.update(_octets(part.flatten(1)))


def _checksum(own: Mixture | Categorical, value: int) -> int:
    """The hash ``value`` taken on over a distribution that is computed."""
    if not isinstance(own, Mixture):
        raise TypeError(
            f"{type(own).__name__} has no checksum; its prior is not hashed"
        )
    return own.checksum(value)


def _split(
    data: Sequence[bytes], context: Contexts
) -> tuple[list[tuple[int, int]], list[bytes]]:
    """Hashes, as they are and without their seals, and streams."""
    hashes = [int.from_bytes(item[:HASH_BYTES], "little") for item in data]
    each = zip(hashes, data, contexts_of(context, len(data)), strict=True)
    pairs = [(h, h ^ seal(item, own)) for h, item, own in each]
    return pairs, [item[HASH_BYTES:] for item in data]


def _join(hashes: Sequence[int], streams: Sequence[bytes]) -> list[bytes]:
    pairs = zip(hashes, streams, strict=True)
    return [value.to_bytes(HASH_BYTES, "little") + data for value, data in pairs]


def _check_hashes(
    found: Sequence[int], older: Sequence[int], expected: Sequence[tuple[int, int]]
) -> None:
    """DeterminismError unless each stream has today's hash, or an earlier one.

    Version 1 hashed the indexes only, and nothing was sealed. Such streams are still
    read; one of today that was coded with other means has none of these.
    """
    for b, (plain, unsealed) in enumerate(expected):
        if found[b] not in (unsealed, plain) and older[b] != plain:
            raise DeterminismError(
                f"stream {b} decodes to something else than was encoded; expected hash "
                f"{unsealed:08x}, found {found[b]:08x}; it is damaged or of another "
                "signal, or the weights are not those of the encoder, or arithmetic is "
                "not exact on this machine: then please report it"
            )


def _flat(plane: Tensor) -> np.ndarray:
    """(C, h, w) in the coded order: channels, then rows.  # BITSTREAM"""
    return np.ascontiguousarray(plane.reshape(-1).cpu().numpy())


def _octets(planes: Tensor) -> Tensor:
    """The bytes of (B, n) indexes."""
    return (
        planes if planes.dtype == torch.uint8 else planes.contiguous().view(torch.uint8)
    )
