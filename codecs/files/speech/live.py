# SPDX-License-Identifier: Apache-2.0
"""Live speech over pipes: samples in, packets out as they are complete, and back.

    samples   16-bit PCM, mono, at the codec's rate; or a WAV of that
    packets   one after the other; each says how long it is

Nothing waits for more than it needs: what can be read is read, what is complete is
written and flushed.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO, NamedTuple

import numpy as np

from polycodec.codecs.base import Codec
from polycodec.codecs.signals.packets import size_of
from polycodec.codecs.signals.speech import speech_signal
from polycodec.errors import BitstreamError, InputError, TruncatedError, VersionError

_PIECE = 1 << 14  # bytes that are read at once, at most
_FORMAT = struct.Struct("<HHIIHH")
_PCM, _EXTENSIBLE = 1, 0xFFFE
_MOST = 1 << 16  # bytes of a chunk before the samples
_UNKNOWN = 0x7FFF_0000  # sizes from here on stand for none
_ENDLESS = 1 << 62
# Files that are no samples, by four bytes or about: two are as likely a quiet sound.
_FILE = re.compile(
    rb"fLaC|OggS|ID3|RF64|BW64|\.snd|caff|FORM|....ftyp|\x1aE\xdf\xa3|\x93PLC"
    rb"|\x89PNG|GIF8|\xff\xd8\xff[\xdb\xe0-\xef]|PK\x03\x04|%PDF",
    re.DOTALL,
)


class Lived(NamedTuple):
    """What went through: packets, of them damaged ones, bytes, seconds of sound."""

    packets: int
    damaged: int
    bytes: int
    seconds: float

    def line(self) -> str:
        """One line for people."""
        kbps = 8 * self.bytes / 1000 / self.seconds if self.seconds else 0.0
        text = f"{self.packets} packets, {self.seconds:.2f} s, {kbps:.3f} kbps"
        return text + (f", {self.damaged} damaged" if self.damaged else "")


def encode_live(
    codec: Codec,
    source: BinaryIO,
    target: BinaryIO,
    *,
    quality: float = 50.0,
    frames: int = 1,
) -> Lived:
    """Packets of samples until ``source`` ends; InputError for what are none."""
    rate = speech_signal(codec).rate
    encoder = codec.encoder(quality, frames=frames)
    (held, left), packets, size, samples = _samples_begin(source, rate), 0, 0, 0
    ended = False
    while not ended:
        piece = _read(source)[:left]
        ended, left = not piece, left - len(piece)
        held += piece
        whole = len(held) & ~1
        x = np.frombuffer(held[:whole], "<i2").astype(np.int16)
        held, samples = held[whole:], samples + len(x)
        made = encoder.push(x) if len(x) else []
        for packet in [*made, *(encoder.flush() if ended else [])]:
            target.write(packet)
            packets, size = packets + 1, size + len(packet)
        target.flush()
    if held:
        raise InputError("the samples end within one of 16 bits; the input is cut")
    if not samples:
        raise InputError("there are no samples; expected 16-bit PCM, or a WAV of it")
    return Lived(packets, 0, size, samples / rate)


def decode_live(codec: Codec, source: BinaryIO, target: BinaryIO) -> Lived:
    """Samples, 16-bit PCM, of packets until ``source`` ends.

    Damaged packets are concealed and counted. Raises TruncatedError for a packet that
    is cut, BitstreamError for bytes that are none, after what came before is written.
    """
    decoder, held, place = codec.decoder(), b"", 0
    packets = damaged = samples = 0
    problem: BitstreamError | None = None
    while problem is None and (piece := _read(source)):
        held += piece
        try:
            while (size := size_of(held)) is not None and size <= len(held):
                packet, held = held[:size], held[size:]
                packets, place = packets + 1, place + size
                try:
                    x = decoder.push(packet)
                except BitstreamError:
                    damaged, x = damaged + 1, decoder.push(None)
                samples += _write(target, x.numpy())
        except VersionError as error:
            problem = BitstreamError(
                f"no packet begins at byte {place}, after {packets}; {error}"
            )
        target.flush()
    samples += _write(target, decoder.flush().numpy())
    target.flush()
    if problem is None and held:
        problem = TruncatedError(
            f"packet {packets + 1} is cut after {len(held)} bytes; expected "
            f"{size_of(held) or 'more'}"
        )
    if problem is None and not packets:
        problem = BitstreamError("there are no packets; expected some")
    if packets and packets == damaged:
        problem = BitstreamError(
            f"all of {packets} packets are damaged, or of other weights; expected some "
            f"of '{codec.name}'; name their model with -m or --checkpoint"
        )
    if problem is not None:
        raise problem
    return Lived(packets, damaged, place, samples / speech_signal(codec).rate)


def _write(target: BinaryIO, x: np.ndarray) -> int:
    """Write samples in [-1, 1] as 16 bits; return how many."""
    target.write(np.clip(np.rint(x * 32768), -32768, 32767).astype("<i2").tobytes())
    return len(x)


def _read(source: BinaryIO) -> bytes:
    """What there is; nothing at the end only."""
    read = getattr(source, "read1", source.read)
    return bytes(read(_PIECE))


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


def _samples_begin(source: BinaryIO, rate: int) -> tuple[bytes, int]:
    """Bytes of samples that were read to find where they begin, and how many follow.

    A WAV's are behind its head, other chunks may be behind them. One that is still
    being made does not know its sizes: 0, or nearly all that can be. InputError for a
    WAV of other samples.
    """
    start = _exactly(source, 12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        if _FILE.match(start):
            raise InputError(
                f"the input begins like a file, {start[:4]!r}; expected 16-bit PCM, or "
                f"a WAV of it; convert it, for example: ffmpeg -i IN -ac 1 -ar {rate} "
                "-f s16le -"
            )
        return start, _ENDLESS
    while len(head := _exactly(source, 8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            return b"", size if 0 < size < _UNKNOWN else _ENDLESS
        if size > _MOST:
            break
        body = _exactly(source, size + size % 2)
        if name == b"fmt " and len(body) >= _FORMAT.size:
            kind, channels, found, _, _, bits = _FORMAT.unpack_from(body)
            if kind not in (_PCM, _EXTENSIBLE) or (channels, bits) != (1, 16):
                raise InputError(
                    f"the WAV has {channels} channels of {bits} bits, format {kind}; "
                    "expected one of 16-bit PCM; convert it, for example: ffmpeg -i IN "
                    f"-ac 1 -ar {rate} -f s16le -"
                )
            if found != rate:
                raise InputError(
                    f"the WAV has {found} samples a second; expected {rate}; convert "
                    f"it, for example: ffmpeg -i IN -ac 1 -ar {rate} -f s16le -"
                )
    raise InputError("the WAV ends before its samples begin")
