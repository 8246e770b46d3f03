# SPDX-License-Identifier: Apache-2.0
"""Token streams as NumPy files, for models that build on them.

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

    photo.npz   codes             (planes, rows, columns) int32
                sizes             (planes,) int32  tokens of each plane's codebook
                model, digest     text             the weights whose tokens they are
                kind              text             "image"
                width, height     int64            pixels
                stride            int64            pixels, each way, of a cell of codes
                tile              int64            side of the .plc's tiles, 0: none
                depth, colour     int64, text      bits of a sample; rgb or gray
                version           int64            1

    talk.npz    latents           (channels, D, frames) float32, before any rounding
                and all but codes and sizes of a file of speech

    .npy        codes, or latents, alone

Stable for given weights: the same speech and the same digest give the same tokens, and
a token means the same vector for ever. Tokens under another digest are another
language; reading them with other weights is refused. A .npy file does not know its
weights, so it is written but not read back.
"""

from __future__ import annotations

import abc
import math
import zipfile
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO, ClassVar

import numpy as np

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.files.container.layout import MAX_RATE, MAX_SPAN, SAMPLES
from polycodec.codecs.files.sources import Twice, name_of, opened
from polycodec.codecs.signals.image import MAX_PIXELS
from polycodec.errors import InputError, ModelError, VersionError

VERSION = 1
TOKEN_SUFFIXES = (".npz", ".npy")
MEL = 80 * 200  # numbers a second of the mel spectrogram that LatentSpeech replaces
MAX_BYTES = 1 << 30  # of one array
_FEW = 1 << 16  # elements of any array but codes


@dataclass(kw_only=True)
class OfSpeech(abc.ABC):
    """What files of tokens and of latents both say of the speech."""

    kind: ClassVar[str] = "speech"

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
    @abc.abstractmethod
    def array(self) -> np.ndarray:
        """Codes or latents, (channels, ..., frames)."""

    @property
    def channels(self) -> int:
        """Channels that are coded."""
        return len(self.array)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.coded_rate / self.hop

    def check_speech(self) -> None:
        """InputError for fields that do not fit one another, or the array."""
        channels, frames = self.array.shape[::2]
        _require(0 < self.rate <= MAX_RATE, "rate", self.rate)
        _require(0 < self.coded_rate <= MAX_RATE, "coded_rate", self.coded_rate)
        _require(self.sample in SAMPLES, "sample", self.sample)
        _require(channels <= 255, "channels", channels)
        _require(1 <= self.source_channels <= 255, "channels", self.source_channels)
        fits = 0 < self.hop <= self.span <= MAX_SPAN and self.span % self.hop == 0
        _require(fits, "hop and span", (self.hop, self.span))
        coded = math.ceil(self.samples * self.coded_rate / self.rate)
        wanted = math.ceil(coded / self.hop)
        _require(0 < wanted == frames, "frames", (frames, wanted))


@dataclass
class Tokens(OfSpeech):
    """The fields of a token file; see the table above."""

    codes: np.ndarray
    sizes: np.ndarray

    @property
    def array(self) -> np.ndarray:
        """The codes."""
        return self.codes

    @property
    def every(self) -> int:
        """Samples from one frame of codes to the next."""
        return self.hop

    def check(self) -> None:
        """InputError for fields that do not fit one another."""
        codes, sizes = self.codes, self.sizes
        _check_arrays(codes, sizes)
        _require(0 < codes.shape[1] <= len(sizes), "levels of codes", codes.shape)
        self.check_speech()
        _check_codes(codes.swapaxes(0, 1), sizes, -1)
        # What is not sent is the same levels of all channels for a whole chunk.
        lost = codes < 0
        _require(not lost[:, 0].any(), "a code of level 0", -1)
        whole = lost[:, 1:] >= lost[:, :-1]
        _require(
            bool(whole.all() and (lost == lost[:1]).all()), "missing codes", "gaps"
        )


@dataclass
class Latents(OfSpeech):
    """The fields of a file of latents of speech; see the table above."""

    latents: np.ndarray

    @property
    def array(self) -> np.ndarray:
        """The latents."""
        return self.latents

    @property
    def of_mel(self) -> float:
        """Numbers a second of a channel, as a share of a mel spectrogram's."""
        return self.latents.shape[1] * self.frame_rate / MEL

    def check(self) -> None:
        """InputError for fields that do not fit one another."""
        _require(self.latents.ndim == 3, "latents", self.latents.shape)
        self.check_speech()


@dataclass
class ImageTokens:
    """The fields of a token file of an image; see the table above."""

    kind: ClassVar[str] = "image"

    codes: np.ndarray
    sizes: np.ndarray
    model: str
    digest: str
    width: int
    height: int
    stride: int
    tile: int = 0
    depth: int = 8
    colour: str = "rgb"

    @property
    def array(self) -> np.ndarray:
        """The codes."""
        return self.codes

    @property
    def every(self) -> int:
        """Pixels from one code of a plane to the next."""
        return self.stride

    def check(self) -> None:
        """InputError for fields that do not fit one another."""
        codes, sizes = self.codes, self.sizes
        _check_arrays(codes, sizes)
        _require(0 < codes.shape[0] <= len(sizes), "planes of codes", codes.shape)
        size = self.height, self.width
        _require(min(size) > 0 and math.prod(size) <= MAX_PIXELS, "size", size)
        _require(0 < self.stride <= 1 << 16, "stride", self.stride)
        fits = self.tile >= 0 and self.tile % self.stride == 0
        _require(fits and self.tile < 1 << 32, "tile", self.tile)
        _require(1 <= self.depth <= 16, "depth", self.depth)
        _require(self.colour in ("rgb", "gray"), "colour", self.colour)
        grid = tuple(-(-n // self.stride) for n in size)
        found = f"{codes.shape[1:]}, expected {grid} of a picture of that size"
        _require(codes.shape[1:] == grid, "rows and columns", found)
        _check_codes(codes, sizes, 0)


AnyTokens = Tokens | ImageTokens | Latents


def write_tokens(file: BinaryIO, tokens: AnyTokens, *, plain: bool = False) -> None:
    """Write a .npz file, or with ``plain`` the codes or latents alone as .npy."""
    if plain:
        np.save(file, tokens.array, allow_pickle=False)
        return
    extra: dict[str, Any] = {"version": VERSION}
    if isinstance(tokens, ImageTokens):
        extra["kind"] = tokens.kind
    else:
        extra["frame_rate"] = tokens.frame_rate
    np.savez_compressed(file, **asdict(tokens), **extra)


def stored_tokens(input: Twice) -> str | None:
    """The kind of signal whose tokens a file holds, None: it holds none.

    By its first bytes and the names of its arrays, or its own name: it is damaged.
    """
    with opened(input) as file:
        at = file.tell()
        start = file.read(6)
        file.seek(at)
        if start == b"\x93NUMPY":
            return "speech"  # codes alone, which `read_tokens` refuses by name
        if start[:4] != b"PK\x03\x04":
            named = name_of(input).lower().endswith(TOKEN_SUFFIXES)
            return "speech" if named else None
        try:
            with zipfile.ZipFile(file) as archive:
                return "image" if "kind.npy" in archive.namelist() else "speech"
        except Exception:  # damage of many kinds: `read_tokens` says which
            return "speech"
        finally:
            file.seek(at)


def with_codebooks(codec: Codec) -> TokenCodec:
    """The codec; ModelError for one of scalar latents, which have no codebooks."""
    if not isinstance(codec, TokenCodec):
        raise ModelError(
            f"the weights at hand ('{codec.name}') code scalar latents; tokens are "
            "indexes of codebooks; use a codec of the token family"
        )
    return codec


def digest_in(tokens: AnyTokens) -> bytes:
    """The digest of the weights; InputError where it is none."""
    digest = bytes_of(tokens.digest, "digest")
    if len(digest) != 4:
        raise InputError(f"the digest '{tokens.digest}' of the tokens is none")
    return digest


def bytes_of(text: str, what: str) -> bytes:
    """Bytes of hexadecimal digits."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError(f"the {what} '{text[:40]}' of the tokens is none") from error


def read_tokens(file: BinaryIO) -> AnyTokens:
    """Read a .npz file; InputError when it is none of ours, or damaged."""
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        raise InputError(
            "a .npy file holds codes alone and does not say whose weights they belong "
            "to; write tokens as .npz to get back to the signal"
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
    made: type[Any] = Latents if "latents" in found else Tokens
    if "kind" in found:
        kind = _value("kind", found["kind"], "str")
        _require(kind == "image", "kind", kind)
        made = ImageTokens
    wanted = {f.name: f.type for f in fields(made)}
    missing = sorted({*wanted, "version"} - set(found))
    if missing:
        raise InputError(f"this is no file of tokens; it has no {', '.join(missing)}")
    if found["version"].size != 1 or found["version"].flat[0] != VERSION:
        raise VersionError(
            f"a file of tokens of version {found['version']}; expected {VERSION}"
        )
    tokens: AnyTokens = made(
        **{n: _value(n, found[n], str(t)) for n, t in wanted.items()}
    )
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
        limit = MAX_BYTES if name in ("codes.npy", "latents.npy") else _FEW
        if dtype.hasobject or fortran or dtype.kind not in "iufU" or size > limit:
            raise ValueError(f"{name} holds {shape} values of type {dtype}")
        data = stream.read(size + 1)  # to the end, where the checksum is looked at
    if len(data) != size:
        raise ValueError(f"{name} has {len(data)} bytes; expected {size}")
    return np.frombuffer(data, dtype).reshape(shape)


def _value(name: str, array: np.ndarray, kind: str) -> Any:
    """An array as its field wants it."""
    if name == "latents":
        fine = array.dtype.kind == "f" and array.size and np.isfinite(array).all()
        _require(bool(fine), name, array.dtype)
        return array.astype(np.float32)
    if kind == "np.ndarray":
        fits = array.dtype.kind in "iu" and array.size > 0
        found = f"{array.dtype} of shape {array.shape}, expected integers"
        _require(fits, name, found)
        limits = np.iinfo(np.int32)
        small = limits.min <= array.min() and array.max() <= limits.max
        _require(bool(small), name, "numbers beyond 32 bits")
        return array.astype(np.int32)
    _require(array.size == 1, name, array.shape)
    if kind == "str":
        _require(array.dtype.kind == "U", name, f"{array.dtype}, expected text")
        return str(array.flat[0])
    value = array.flat[0]
    whole = array.dtype.kind in "iuf" and float(value).is_integer()
    _require(whole, name, value)
    return int(value)


def _check_arrays(codes: Any, sizes: Any) -> None:
    """InputError for what are no arrays of integers, (A, B, C) and (L,)."""
    for name, array, axes in (("codes", codes, 3), ("sizes", sizes, 1)):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
            found = getattr(array, "dtype", type(array).__name__)
            _require(False, name, f"{found}, expected an array of integers")
        fits = array.ndim == axes and array.size > 0
        _require(fits, name, f"of shape {array.shape}, expected {axes} axes")


def _check_codes(codes: np.ndarray, sizes: np.ndarray, least: int) -> None:
    """InputError for a code of a level (levels, ...) outside least … its size - 1."""
    for level, plane in enumerate(codes):
        low, high, size = int(plane.min()), int(plane.max()), int(sizes[level])
        wrong = low if low < least else high
        found = f"{wrong} in plane {level}, expected {least} to {size - 1}"
        _require(least <= low and high < size, "a code", found)


def _require(fine: bool, what: str, found: Any) -> None:
    if not fine:
        raise InputError(
            f"{what} of the file of tokens cannot be: {found}; write it again from the "
            "signal or the .plc file"
        )
