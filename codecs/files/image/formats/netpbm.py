# SPDX-License-Identifier: Apache-2.0
"""PBM, PGM and PPM, plain and raw, with every maximum value up to 65535.

    P6 768 512 65535 <white space> big-endian samples

Pillow reduces 16-bit PPM to 8 bits, hence this reader. Samples whose maximum is
not 2^depth - 1 are scaled to it.

Reference: the pbm, pgm and ppm pages of Netpbm's manual.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np

from polycodec.codecs.files.image.data import Beside
from polycodec.errors import InputError

_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([0-9]+)")
_COMMENT = re.compile(rb"#[^\r\n]*")
_FLOAT = (b"PF", b"Pf")


def is_netpbm(start: bytes) -> bool:
    """Tell whether a file that starts with ``start`` belongs to this family."""
    return start[:1] == b"P" and start[1:2] in b"1234567Ff" and len(start) > 2


def read_netpbm(data: bytes, max_pixels: int, found: Beside) -> tuple[np.ndarray, int]:
    """Return samples (H, W, 1 or 3) uint8 or uint16 and their depth in bits.

    Comments in the header are texts of ``found``.
    """
    magic = data[:2]
    if magic in _FLOAT:
        raise InputError("a float PFM image; expected integers; convert it to 16 bits")
    if magic == b"P7":
        raise InputError("a PAM image is not supported; convert it to PNG")
    channels = 3 if magic in (b"P3", b"P6") else 1
    bitmap = magic in (b"P1", b"P4")
    (width, height, maximum), at = _header(data, 2 if bitmap else 3)
    if not 1 <= maximum <= 65535:
        raise InputError(f"the maximum sample is {maximum}; expected 1..65535")
    if not width or not height:
        raise InputError(f"the image has {width} x {height} pixels; expected some")
    if width * height > max_pixels:
        raise InputError(
            f"the image has {width * height} pixels; expected at most {max_pixels}"
        )
    shape = (height, width, channels)
    for comment in _COMMENT.findall(data[:at]):
        found.text.append(("Comment", comment[1:].strip().decode("latin-1")))
    if magic in (b"P1", b"P2", b"P3"):
        samples = _plain(data[at:], bitmap, shape, found)
    else:
        samples = _raw(data, at + 1, bitmap, maximum, shape, found)
    if bitmap:
        samples = 1 - samples  # a set bit is black
    return _scaled(samples, maximum)


def write_netpbm(target: BinaryIO, pixels: np.ndarray, depth: int) -> None:
    """Write ``pixels`` (H, W, 1 or 3) as raw PGM or PPM of ``depth`` bits."""
    height, width, channels = pixels.shape
    magic = "P6" if channels == 3 else "P5"
    target.write(f"{magic}\n{width} {height}\n{(1 << depth) - 1}\n".encode("ascii"))
    stored = ">u2" if depth > 8 else "u1"
    for top in range(0, height, 256):
        target.write(pixels[top : top + 256].astype(stored).tobytes())


def _header(data: bytes, count: int) -> tuple[tuple[int, int, int], int]:
    numbers, at = [], 2
    for _ in range(count):
        match = _TOKEN.match(data, at)
        if match is None or len(match[1]) > 10:
            raise InputError("the header of the PPM image is damaged or cut")
        numbers.append(int(match[1]))
        at = match.end()
    width, height, maximum = [*numbers, 1][:3]
    return (width, height, maximum), at


def _plain(
    body: bytes, bitmap: bool, shape: tuple[int, int, int], found: Beside
) -> np.ndarray:
    body = _COMMENT.sub(b" ", body)
    count = int(np.prod(shape))
    if bitmap:  # digits need no space between them
        digits = np.frombuffer(body, np.uint8)
        samples = digits[(digits == 48) | (digits == 49)].astype(np.uint8) - 48
    else:
        if body.strip(b"0123456789 \t\r\n\v\f"):
            raise InputError("the plain PPM image holds something else than numbers")
        numbers = body.split(maxsplit=count)
        samples = np.fromiter(map(int, numbers[:count]), np.int64)
        samples = np.append(samples, [0] * len(numbers[count:]))
    if samples.size < count:
        raise InputError(
            f"the PPM image is cut; expected {count} samples, found {samples.size}"
        )
    if samples.size > count:
        found.left_out("numbers behind the samples of the plain PPM")
    return samples[:count].reshape(shape)


def _raw(
    data: bytes,
    at: int,
    bitmap: bool,
    maximum: int,
    shape: tuple[int, int, int],
    found: Beside,
) -> np.ndarray:
    height, width, channels = shape
    stored = np.dtype(">u2" if maximum > 255 else "u1")
    row = -(-width // 8) if bitmap else width * channels * stored.itemsize
    left = len(data) - at
    if left < row * height:
        raise InputError(
            f"the PPM image is cut; expected {row * height} bytes of samples, found "
            f"{max(left, 0)}"
        )
    if data[at + row * height : at + row * height + 1] == b"P":
        raise InputError("the PPM file holds several images; expected one; split it")
    if tail := data[at + row * height :].strip():
        found.left_out(f"{len(tail)} bytes behind the samples of the PPM")
    body = np.frombuffer(data, np.uint8, row * height, at)
    if bitmap:
        return np.unpackbits(body.reshape(height, row), axis=1)[:, :width, None]
    return body.view(stored).reshape(shape)


def _scaled(samples: np.ndarray, maximum: int) -> tuple[np.ndarray, int]:
    if int(samples.max()) > maximum:
        raise InputError(
            f"a sample is {int(samples.max())}; expected at most {maximum}; the PPM "
            "image is damaged"
        )
    depth = maximum.bit_length()
    peak = (1 << depth) - 1
    if peak != maximum:
        samples = (samples.astype(np.uint32) * peak + maximum // 2) // maximum
    return samples.astype(np.uint16 if depth > 8 else np.uint8), depth
