# SPDX-License-Identifier: Apache-2.0
"""Token streams as NumPy files, for language models that build on them.

    talk.npz    codes             (channels, levels, frames) int32, -1: not sent
                sizes             (L,) int32       tokens of each level of the codebook
                model, digest     text             the weights whose tokens they are
                frame_rate        float64          frames a second
                rate, samples     int64            of the source; samples of a channel
                coded_rate, hop   int64            samples a second as coded, in a frame
                span              int64            coded samples in a chunk of the .plc
                sample            text             form of the source's samples
                source_channels   int64            of the source
    condition         text             what was taken out before coding, hexadecimal:
                                       FORMAT.md; may be missing
                version           int64            1

    talk.npy    codes alone

Stable for given weights: the same speech and the same digest give the same tokens, and
a token means the same vector for ever. Tokens under another digest are another
language; reading them with other weights is refused. A .npy file does not know its
weights, so it is written but not read back.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO

import numpy as np

from polycodec.codecs.files.container.layout import MAX_RATE, MAX_SPAN, SAMPLES
from polycodec.errors import InputError, VersionError

VERSION = 1
MAX_BYTES = 1 << 30  # of one array
_FEW = 1 << 16  # elements of any array but codes


@dataclass
class Tokens:
    """The fields of a token file; see the table above."""

    codes: np.ndarray
    sizes: np.ndarray
    model: str
    digest: str
    rate: int
    samples: int
    coded_rate: int
    hop: int
    span: int
    sample: str = "int16"
    source_channels: int = 1
    condition: str = ""

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.coded_rate / self.hop

    def check(self) -> None:
        """InputError for fields that do not fit one another."""
        codes, sizes = self.codes, self.sizes
        _require(codes.ndim == 3 and codes.size > 0, "codes", codes.shape)
        _require(sizes.ndim == 1, "sizes", sizes.shape)
        _require(0 < codes.shape[1] <= len(sizes), "levels of codes", codes.shape)
        _require(0 < self.rate <= MAX_RATE, "rate", self.rate)
        _require(0 < self.coded_rate <= MAX_RATE, "coded_rate", self.coded_rate)
        _require(self.sample in SAMPLES, "sample", self.sample)
        _require(codes.shape[0] <= 255, "channels", codes.shape[0])
        _require(1 <= self.source_channels <= 255, "channels", self.source_channels)
        fits = 0 < self.hop <= self.span <= MAX_SPAN and self.span % self.hop == 0
        _require(fits, "hop and span", (self.hop, self.span))
        frames = math.ceil(
            math.ceil(self.samples * self.coded_rate / self.rate) / self.hop
        )
        _require(0 < frames == codes.shape[2], "frames", (codes.shape[2], frames))
        beyond = codes >= np.asarray(sizes)[: codes.shape[1], None]
        _require(not beyond.any() and codes.min() >= -1, "a code", codes.max())
        # What is not sent is the same levels of all channels for a whole chunk.
        lost = codes < 0
        _require(not lost[:, 0].any(), "a code of level 0", -1)
        whole = lost[:, 1:] >= lost[:, :-1]
        _require(
            bool(whole.all() and (lost == lost[:1]).all()), "missing codes", "gaps"
        )


def write_tokens(file: BinaryIO, tokens: Tokens, *, plain: bool = False) -> None:
    """Write a .npz file, or with ``plain`` the codes alone as .npy."""
    if plain:
        np.save(file, tokens.codes, allow_pickle=False)
        return
    extra: dict[str, Any] = {"frame_rate": tokens.frame_rate, "version": VERSION}
    np.savez_compressed(file, **asdict(tokens), **extra)


def read_tokens(file: BinaryIO) -> Tokens:
    """Read a .npz file; InputError when it is none of ours, or damaged."""
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        raise InputError(
            "a .npy file holds codes alone and does not say whose weights they belong "
            "to; write tokens as .npz to get back to speech"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            found = {
                name.removesuffix(".npy"): _array(archive, name)
                for name in archive.namelist()[:64]
            }
    except Exception as error:
        # zipfile, zlib and NumPy's header meet damage with errors of many kinds.
        raise InputError(f"the file of tokens is damaged; {error}") from error
    found.setdefault("condition", np.array(""))  # files of before have none
    wanted = {f.name: f.type for f in fields(Tokens)}
    missing = sorted({*wanted, "version"} - set(found))
    if missing:
        raise InputError(f"this is no file of tokens; it has no {', '.join(missing)}")
    if found["version"].size != 1 or found["version"].flat[0] != VERSION:
        raise VersionError(
            f"a file of tokens of version {found['version']}; expected {VERSION}"
        )
    tokens = Tokens(**{n: _value(n, found[n], str(t)) for n, t in wanted.items()})
    tokens.check()
    return tokens


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array; its shape is believed only as far as its bytes reach."""
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{name} has version {version} of the .npy format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        size = math.prod(shape) * dtype.itemsize
        limit = MAX_BYTES if name == "codes.npy" else _FEW
        if dtype.hasobject or fortran or dtype.kind not in "iufU" or size > limit:
            raise ValueError(f"{name} holds {shape} values of type {dtype}")
        data = stream.read(size + 1)  # to the end, where the checksum is looked at
    if len(data) != size:
        raise ValueError(f"{name} has {len(data)} bytes; expected {size}")
    return np.frombuffer(data, dtype).reshape(shape)


def _value(name: str, array: np.ndarray, kind: str) -> Any:
    """An array as its field wants it."""
    if kind == "np.ndarray":
        _require(array.dtype.kind in "iu" and array.size > 0, name, array.dtype)
        limits = np.iinfo(np.int32)
        small = limits.min <= array.min() and array.max() <= limits.max
        _require(bool(small), name, "numbers beyond 32 bits")
        return array.astype(np.int32)
    _require(array.size == 1, name, array.shape)
    if kind == "str":
        _require(array.dtype.kind == "U", name, array.dtype)
        return str(array.flat[0])
    value = array.flat[0]
    _require(array.dtype.kind in "iuf" and value == value // 1, name, value)
    return int(value)


def _require(fine: bool, what: str, found: Any) -> None:
    if not fine:
        raise InputError(
            f"{what} of the file of tokens cannot be: {found}; write it again from the "
            "speech or the .plc file"
        )
