# SPDX-License-Identifier: Apache-2.0
"""libopus as calls use it: packets of 20 ms, FEC inside them, concealment.

    sender     (320,) int16 ──► bytes        told which share of packets is lost
    receiver   bytes or None ──► (320,) int16
                 lost, the next one came     from the FEC data of that one
                 lost, and the next as well  concealed

A receiver so waits for one packet more than it plays. The library is the one inside
PyAV's wheels, called through ctypes: PyAV itself passes no lost packets on. Decoders
are of the lowest complexity, at which libopus uses no network to enhance or to conceal.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

RATE, FRAME = 16000, 320
LARGEST = 1275  # bytes of a packet of one frame
VOIP = 2048
# Requests of opus_defines.h.
BITRATE, VBR, COMPLEXITY, FEC, LOSS = 4002, 4006, 4010, 4012, 4014
CONSTRAINED, LOOKAHEAD = 4020, 4027


@cache
def library() -> ctypes.CDLL:
    """Libopus of the installed PyAV; OSError where its wheel brings none."""
    import av

    folder = Path(av.__file__).parents[1]
    found = [*folder.glob("av.libs/libopus*"), *folder.glob("av/**/libopus*")]
    if not found:
        raise OSError(f"no libopus beside PyAV in {folder}; expected that of its wheel")
    opus = ctypes.CDLL(str(found[0]))
    opus.opus_get_version_string.restype = ctypes.c_char_p
    opus.opus_strerror.restype = ctypes.c_char_p
    for made in (opus.opus_encoder_create, opus.opus_decoder_create):
        made.restype = ctypes.c_void_p
    return opus


def version() -> str:
    """What the library calls itself."""
    return library().opus_get_version_string().decode()


def checked(result: int) -> int:
    """A result of the library; RuntimeError with its reason where it is negative."""
    if result < 0:
        raise RuntimeError(f"libopus: {library().opus_strerror(result).decode()}")
    return result


class Encoder:
    """One channel at 16 kHz, complexity 10, constrained variable rate.

    ``loss``: share of packets expected to be lost; above 0 with in-band FEC, for which
    libopus takes bits from the rate where it has enough of them.
    """

    def __init__(self, kbps: float, loss: float = 0.0) -> None:
        error = ctypes.c_int()
        made = library().opus_encoder_create(RATE, 1, VOIP, ctypes.byref(error))
        checked(error.value)
        self._state = ctypes.c_void_p(made)
        self._set(BITRATE, round(1000 * kbps))
        self._set(COMPLEXITY, 10)
        self._set(VBR, 1)
        self._set(CONSTRAINED, 1)
        self._set(FEC, int(loss > 0))
        self._set(LOSS, round(100 * loss))

    def _set(self, request: int, value: int) -> None:
        checked(library().opus_encoder_ctl(self._state, request, ctypes.c_int(value)))

    @property
    def lookahead(self) -> int:
        """Samples by which what is decoded comes late."""
        found = ctypes.c_int()
        checked(library().opus_encoder_ctl(self._state, LOOKAHEAD, ctypes.byref(found)))
        return found.value

    def push(self, frame: np.ndarray) -> bytes:
        """The packet of samples (320,) int16."""
        assert frame.shape == (FRAME,) and frame.dtype == np.int16
        target = ctypes.create_string_buffer(LARGEST)
        samples = np.ascontiguousarray(frame).ctypes.data_as(ctypes.c_void_p)
        size = library().opus_encode(self._state, samples, FRAME, target, LARGEST)
        return target.raw[: checked(size)]

    def __del__(self) -> None:
        if hasattr(self, "_state"):
            library().opus_encoder_destroy(self._state)


class Decoder:
    """One channel at 16 kHz."""

    def __init__(self) -> None:
        error = ctypes.c_int()
        made = library().opus_decoder_create(RATE, 1, ctypes.byref(error))
        checked(error.value)
        self._state = ctypes.c_void_p(made)
        checked(library().opus_decoder_ctl(self._state, COMPLEXITY, ctypes.c_int(0)))

    def push(self, packet: bytes | None, following: bytes | None = None) -> np.ndarray:
        """Samples (320,) int16; ``following`` is asked where ``packet`` is lost."""
        lost = packet is None
        data = following if packet is None else packet
        samples = np.zeros(FRAME, np.int16)
        found = library().opus_decode(
            self._state,
            data,
            len(data or b""),
            samples.ctypes.data_as(ctypes.c_void_p),
            FRAME,
            int(lost and data is not None),
        )
        assert checked(found) == FRAME, found
        return samples

    def __del__(self) -> None:
        if hasattr(self, "_state"):
            library().opus_decoder_destroy(self._state)


def encoded(samples: np.ndarray, kbps: float, loss: float = 0.0) -> list[bytes]:
    """Packets of samples (n,) int16, and of silence until the look-ahead is out."""
    encoder = Encoder(kbps, loss)
    more = encoder.lookahead + (-len(samples) - encoder.lookahead) % FRAME
    frames = np.pad(samples, (0, more)).reshape(-1, FRAME)
    return [encoder.push(frame) for frame in frames]


def decoded(packets: Sequence[bytes | None], length: int) -> np.ndarray:
    """Samples (length,) int16 of packets, the look-ahead of encoders taken off."""
    decoder = Decoder()
    pairs = zip(packets, [*packets[1:], None], strict=True)
    samples = np.concatenate([decoder.push(*pair) for pair in pairs])
    late = Encoder(16).lookahead
    return samples[late : late + length]


def has_fec(packet: bytes) -> bool:
    """Whether a packet holds FEC data of the one before."""
    return bool(checked(library().opus_packet_has_lbrr(packet, len(packet))))
