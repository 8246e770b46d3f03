# SPDX-License-Identifier: Apache-2.0
"""Sound as chunks of tokens, in bounded memory and without seams.

    samples ─ blocks of frames ─► codes │ chunk 0 │ chunk 1 │ chunk 2 │
                                        └ levels, a stream for each channel

Codes come from fixed blocks of the whole signal (`blocks.py`), so a chunk's edge does
not show in them; a chunk only groups the codes of its seconds, and its entropy state
starts afresh. Synthesis of a block takes the codes of its context, from neighbouring
chunks too: the samples of a part are those of the whole, bit for bit.

A chunk's number of levels is its own: its rate is. What levels mean is the codec's.
"""

from __future__ import annotations

import functools
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.fields import Cursor, Varint, put_rows
from polycodec.codecs.files.container.layout import MAX_CHUNK, SPEECH, SpeechGeometry
from polycodec.codecs.signals.speech import speech_signal
from polycodec.cuda import crc32c
from polycodec.errors import BitstreamError, DeterminismError, InputError

_SIZE = Varint(0, MAX_CHUNK)
_MEMORY = 8 << 20  # bytes of codes kept in memory
# What a chunk may hold: a named error instead of hours of sound from a few bytes.
MAX_SECONDS = 64
_FREE_SECONDS, _FRAMES_A_BYTE = 10, 256  # silence takes a byte for 200 frames


def pack_chunk(levels: int, streams: Sequence[bytes]) -> bytes:
    """levels, the sizes of all streams but the last, the streams.  # BITSTREAM"""
    out = bytearray([levels])
    for stream in streams[:-1]:
        _SIZE.put(out, len(stream))
    return bytes(out) + b"".join(streams)


def write_chunk(
    codec: Codec, codes: Tensor, levels: int, k: int, frames: int, beside: bytes
) -> tuple[bytes, float]:
    """Chunk k of codes (channels, C, n) of so many frames, and its estimated bits.

    ``beside``: what its streams are sealed with too, of `seal_of`.
    """
    context = _context(k, levels, frames, len(codes)) + beside
    coded = codec.write(codes, levels, context=context)
    return pack_chunk(levels, coded.data), sum(coded.estimated_bits)


def _context(k: int, levels: int, frames: int, channels: int) -> bytes:
    """What the streams of chunk k are sealed with, before what `seal_of` adds."""
    return struct.pack("<2I2B", k, frames, levels, channels)  # BITSTREAM


def seal_of(geometry: SpeechGeometry, condition: bytes | None) -> bytes:
    """What the file adds to the seal of its streams.  # BITSTREAM

    ``condition``: the record of that name, if there is one.
    """
    out = bytearray()
    put_rows(out, SPEECH, vars(geometry))
    return crc32c(bytes(out) + (condition or b"")).to_bytes(4, "little")


def unpack_chunk(data: bytes, channels: int) -> tuple[int, list[bytes]]:
    """(levels, streams) of a chunk; BitstreamError when it is too short."""
    cursor = Cursor(data)
    levels = cursor.take(1)[0]
    sizes = [_SIZE.get(cursor) for _ in range(channels - 1)]
    if sum(sizes) > cursor.left:
        raise BitstreamError(
            f"the streams of a chunk have {sum(sizes)} bytes and more; found "
            f"{cursor.left}"
        )
    return levels, [cursor.take(size) for size in (*sizes, cursor.left - sum(sizes))]


class CodeSpool:
    """What all chunks' codes follow from, for trial codings; on disk if it is much."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY)  # noqa: SIM115
        self._places: list[int] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, kept: Tensor) -> None:
        """Append codes or latents (channels, K, frames) of the next chunk."""
        self._places.append(self._file.tell())
        np.save(self._file, kept.numpy(), allow_pickle=False)

    def get(self, k: int) -> Tensor:
        """Return what was added as chunk k."""
        self._file.seek(self._places[k])
        return torch.from_numpy(np.load(self._file, allow_pickle=False))


class ChunkDecoder:
    """Samples of a file from the chunks they need.

    ``read``: chunk number -> bytes; ``beside``: what `seal_of` says of the file.
    ``damaged`` collects chunks that could not be read or decoded, if ``salvage``: they
    become silence. Else their error is raised.
    """

    def __init__(
        self,
        codec: Codec,
        read: Callable[[int], bytes],
        *,
        samples: int,
        span: int,
        channels: int,
        beside: bytes,
        salvage: bool = False,
    ) -> None:
        self.beside = beside
        self.signal, self.hop = speech_signal(codec), codec.stride
        if span % self.hop or span > MAX_SECONDS * self.signal.rate:
            raise BitstreamError(
                f"chunks of {span} samples; expected a multiple of {self.hop}, the "
                f"hop of '{codec.name}', for at most {MAX_SECONDS} seconds"
            )
        self.codec, self.read, self.salvage = codec, read, salvage
        self.samples, self.channels = samples, channels
        self.frames = -(-samples // self.hop)
        self.span = span // self.hop  # frames in a chunk
        self.damaged: dict[int, BitstreamError] = {}
        self._known: dict[int, Tensor] = {}

    def blocks(self, first: int = 0) -> Iterator[np.ndarray]:
        """Yield samples (n, channels) float32 in [-1, 1] from sample ``first`` on."""
        hop, block = self.hop, self.signal.block
        for k in range(first // hop // block, -(-self.frames // block)):
            at = k * block * hop
            yield self._block(k)[max(0, first - at) : self.samples - at]

    @torch.inference_mode()
    def _block(self, k: int) -> np.ndarray:
        """All samples (n, channels) of block k."""
        first = k * self.signal.block
        last = min(first + self.signal.block, self.frames)
        own = range(first // self.span, (last - 1) // self.span + 1)
        if self.salvage and all(self._is_lost(number) for number in own):
            return np.zeros(((last - first) * self.hop, self.channels), np.float32)
        made = self.signal.synthesised(self.codec, self._latents, k, self.frames)
        x: np.ndarray = made.float().clamp(-1, 1).T.cpu().numpy()
        for bad in self.damaged:
            begin = (bad * self.span - k * self.signal.block) * self.hop
            x[max(0, begin) : max(0, begin + self.span * self.hop)] = 0
        return x

    def _latents(self, start: int, stop: int) -> Tensor:
        """Latents (channels, D, n) of frames [start, stop)."""
        numbers = range(start // self.span, (stop - 1) // self.span + 1)
        for old in [k for k in self._known if k < numbers[0]]:
            del self._known[old]
        parts = []
        for k in numbers:
            at = k * self.span
            parts.append(self._chunk(k)[..., max(0, start - at) : stop - at])
        return torch.cat(parts, dim=2)

    def _chunk(self, k: int) -> Tensor:
        """Latents of chunk k; zeros where it is damaged."""
        if k not in self._known:
            try:
                codes, levels = self.codes(k)
                codes = codes.to(self.codec.device)
                self._known[k] = self.codec.dequantize(codes, levels)
            except BitstreamError as error:
                if not self.salvage:
                    raise
                self.damaged[k] = error
                shape = (self.channels, self.codec.channels, self._frames_of(k))
                # One zero, seen everywhere: a lost chunk takes no memory.
                nothing = torch.zeros(1, device=self.codec.device)
                self._known[k] = nothing.expand(shape)
        return self._known[k]

    def _is_lost(self, k: int) -> bool:
        if k not in self.damaged:
            self._chunk(k)
        return k in self.damaged

    def codes(self, k: int) -> tuple[Tensor, int]:
        """Codes (channels, C, frames) of chunk k, and at how many levels they are."""
        levels, streams = unpack_chunk(self.read(k), self.channels)
        if not 1 <= levels <= self.codec.levels:
            raise BitstreamError(
                f"chunk {k} has {levels} levels; expected 1 to {self.codec.levels}"
            )
        frames = self._frames_of(k)
        free = _FREE_SECONDS * self.signal.rate // self.hop
        shortest = min(map(len, streams))
        if frames > free + _FRAMES_A_BYTE * shortest:
            raise BitstreamError(
                f"chunk {k} has a stream of {shortest} bytes for {frames} frames; "
                f"expected at least {(frames - free) // _FRAMES_A_BYTE + 1} bytes"
            )
        codes = self._read(streams, levels, k)
        try:
            self.codec.check_codes(codes)
        except InputError as error:
            raise BitstreamError(f"chunk {k} is damaged; {error}") from error
        return codes, levels

    def _read(self, streams: list[bytes], levels: int, k: int) -> Tensor:
        """The codes of a chunk's streams; as earlier encoders sealed them, too."""
        frames = self._frames_of(k)
        place = _context(k, levels, frames, self.channels)
        read = functools.partial(self.codec.read, streams, levels, (frames,))
        try:
            return read(context=place + self.beside)
        except DeterminismError as error:
            if not self.beside:
                raise
            try:
                codes = read(context=place)
            except DeterminismError:
                raise error from None
        self.beside = b""  # so is every chunk
        return codes

    def _frames_of(self, k: int) -> int:
        return min(self.span, self.frames - k * self.span)
