# SPDX-License-Identifier: Apache-2.0
"""Packets: frames of codes that are decoded alone, whatever became of the others.

    byte 0        version << 6 | n     n: bytes of the body, below 63
                  version << 6 | 63    63 + the next byte, or two: big-endian if the
    ...                                first has its high bit, which does not count
    byte          check: low 8 bits of CRC-32C of head and body, over the digest
    n bytes       level - 1 of the codec's levels, frames - 1 of 8, codes of the frames:
                  one number (`entropy_models.intervals`)

The entropy model starts anew in every packet: its contexts are levels and frames of the
packet alone. What another packet would tell is not used, since a lost packet would then
take its followers along; a page of measurements says what that costs. The digest of the
weights is part of the check and takes no byte; damage has to meet both the check and
what only an encoder would write.

# BITSTREAM, all of it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polycodec.cuda import crc32c
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.intervals import IntervalReader, IntervalWriter
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    InputError,
    ModelError,
    TruncatedError,
    VersionError,
)

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

VERSION = 2  # the first: neither text nor zeros begin so
MOST_FRAMES = 8
_ESCAPE = 63  # sizes from here on take a byte or two more
_LONG = 1 << 7
LARGEST = _ESCAPE + (1 << 15) - 1


def check_has_packets(codec: Codec) -> None:
    """ModelError for a codec of other numbers than tokens of codebooks.

    Tables of tokens are fixed and have no escape, so a packet can be one number.
    """
    entropy = codec._require_entropy()
    if entropy.codes != TokenModel.codes:
        raise ModelError(
            f"{codec.name!r} codes {entropy.codes}, which do not fit into packets; "
            "expected tokens of codebooks; take a codec of the token family"
        )


@torch.inference_mode()
def write_packets(codec: Codec, codes: Tensor, level: float) -> list[bytes]:
    """Packets of codes (B, C, frames) at a level, one for each item."""
    serial = codec._require_entropy().serial
    frames = codes.shape[-1]
    assert 1 <= frames <= MOST_FRAMES, frames
    writer = IntervalWriter(len(codes))
    writer.put_number(int(level) - 1, codec.levels)
    writer.put_number(frames - 1, MOST_FRAMES)
    coder = RangeEncoder(len(codes), serial=serial, writer=writer)
    codec.code(coder, codes, level)
    return [_framed(codec, body) for body in coder.finish()]


@torch.inference_mode()
def read_packets(codec: Codec, packets: Sequence[bytes]) -> list[tuple[Tensor, float]]:
    """Codes (C, frames) and the level of each packet; errors named in `body_of`."""
    codec._require_entropy()
    bodies = [body_of(codec, packet) for packet in packets]
    reader = IntervalReader(bodies)
    heads = list(
        zip(
            (n + 1 for n in reader.get_number(codec.levels)),
            (n + 1 for n in reader.get_number(MOST_FRAMES)),
            strict=True,
        )
    )
    found: dict[int, tuple[Tensor, float]] = {}
    for level, frames in dict.fromkeys(heads):  # those that are alike go together
        places = [k for k, head in enumerate(heads) if head == (level, frames)]
        coder = RangeDecoder([], reader=reader.only(places))
        codes = codec.code(coder, None, level, (len(places), frames))
        coder.finish()
        found |= {k: (codes[i], level) for i, k in enumerate(places)}
    return [found[k] for k in range(len(packets))]


def size_of(data: bytes) -> int | None:
    """Bytes of the packet that data begins with; None: there are too few to say.

    VersionError for a packet of another version. Zeros or text are none of ours.
    """
    if not data:
        return None
    version, size = data[0] >> 6, data[0] & _ESCAPE
    if version != VERSION:
        raise VersionError(
            f"a packet is of version {version}; this build reads version {VERSION}; "
            "it is damaged, no packet, or of another polycodec"
        )
    if size < _ESCAPE:
        return 2 + size
    if len(data) < 2:
        return None
    if not data[1] & _LONG:
        return 3 + _ESCAPE + data[1]
    if len(data) < 3:
        return None
    return 4 + _ESCAPE + int.from_bytes(data[1:3], "big") - (_LONG << 8)


def body_of(codec: Codec, packet: bytes) -> bytes:
    """The body of a packet.

    TruncatedError, BitstreamError for too few or too many bytes, VersionError,
    ChecksumError for damage or other weights; InputError for what are no bytes.
    """
    if not isinstance(packet, (bytes, bytearray, memoryview)):
        raise InputError(
            f"a packet is of type {type(packet).__name__}; expected bytes, or None for "
            "one that was lost"
        )
    packet = bytes(packet)
    size = size_of(packet)
    if size is None or len(packet) < size:
        wanted = "more" if size is None else size
        raise TruncatedError(
            f"a packet has {len(packet)} bytes; expected {wanted}; hand it over whole, "
            "or None in its place"
        )
    if len(packet) > size:
        raise BitstreamError(
            f"a packet has {len(packet)} bytes; expected {size}; hand packets over one "
            "by one"
        )
    head = _head(packet)
    body = packet[head + 1 :]
    if packet[head] != _check(codec, packet[:head], body):
        raise ChecksumError(
            "a packet's check does not match; it is damaged, or made with other "
            "weights; hand over None in its place"
        )
    return body


def _framed(codec: Codec, body: bytes) -> bytes:
    size, version = len(body), VERSION << 6
    if size > LARGEST:
        raise InputError(f"a packet of {size} bytes; expected at most {LARGEST}")
    if size < _ESCAPE:
        head = bytes([version | size])
    elif size < _ESCAPE + _LONG:
        head = bytes([version | _ESCAPE, size - _ESCAPE])
    else:
        rest = (size - _ESCAPE) | _LONG << 8
        head = bytes([version | _ESCAPE]) + rest.to_bytes(2, "big")
    return head + bytes([_check(codec, head, body)]) + body


def _head(packet: bytes) -> int:
    """Bytes before the check, of a packet whose size is known."""
    if packet[0] & _ESCAPE < _ESCAPE:
        return 1
    return 3 if packet[1] & _LONG else 2


def _check(codec: Codec, head: bytes, body: bytes) -> int:
    return crc32c(head + body, crc32c(codec.digest)) & 255
