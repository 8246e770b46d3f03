# SPDX-License-Identifier: Apache-2.0
"""The C library of the range coder: found, loaded through ctypes, and checked.

The package's build compiles it when there is a compiler; ctypes needs no Python
headers and lets go of the interpreter lock while the library works. It is looked for
beside this file, where wheels, editable installs and ``polycodec.cuda.host.build`` put
it. Without it NumPy does everything.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import logging
import os
import pathlib
import platform

import numpy as np

from polycodec.cuda.host import abi
from polycodec.errors import UsageError

logger = logging.getLogger(__name__)

# The plain suffix comes last in Python's list: one library serves every Python.
_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[-1]
PATH = pathlib.Path(__file__).parent / f"_rans{_SUFFIX}"
_ARM = platform.machine().lower() in ("aarch64", "arm64")
# In the order of the library's numbers.
SIMD = ("scalar", "neon") if _ARM else ("scalar", "avx2", "avx512")

_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_TABLES, _LANES, _PRIOR = map(ctypes.POINTER, (abi.Tables, abi.Lanes, abi.Prior))
_COUNT, _COST = ctypes.POINTER(_I64), ctypes.POINTER(ctypes.c_uint64)
# What each function returns and takes; host.cpp says what the arguments are.
_FUNCTIONS = {
    "polycodec_crc32c": (
        ctypes.c_uint32,
        (_P, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_int),
    ),
    "polycodec_simd": (_I32, ()),
    "polycodec_rows": (
        _I64,
        (_TABLES, _P, _P, _I32, _I64, _I32, _P, _I32, _P, _I64, _COUNT),
    ),
    "polycodec_cost": (ctypes.c_uint64, (_TABLES, _P, _I32, _I64, _I32)),
    "polycodec_encode_pass": (_I64, (_TABLES, _P, _I32, _I64, _LANES, _I32, _I32)),
    "polycodec_decode_pass": (_I64, (_TABLES, _P, _I32, _I64, _LANES, _I32, _I32, _P)),
    "polycodec_prior_rows": (
        _I64,
        (_PRIOR, _P, _I32, _P, _COST, _P, _I64, _COUNT),
    ),
    "polycodec_decode_prior": (_I64, (_PRIOR, _LANES, _I32, _I32, _P)),
}
# Shared by nothing that decodes, so a build may lack it: trellis.cpp.
_TRELLIS = (None, (_P, _I64, _I32, _I32, _I32, _I32, _P, _P, _I32))


class Library:
    """The loaded C library; its functions have the types of ``_FUNCTIONS``."""

    def __init__(self, path: pathlib.Path) -> None:
        """Load ``path``; raises OSError when it is not a library of this ABI."""
        loaded = ctypes.CDLL(str(path))
        try:
            number = loaded.polycodec_abi()
            if number != abi.ABI:
                raise OSError(f"{path.name} has ABI {number}, expected {abi.ABI}")
            for k, (name, size) in enumerate(abi.SIZES.items()):
                found = loaded.polycodec_sizeof(k)
                if found != size:
                    raise OSError(f"{path.name}: {name} has {found} bytes, not {size}")
            for name, types in _FUNCTIONS.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = types
        except AttributeError as error:
            raise OSError(f"{path.name} is not the coder: {error}") from error
        self.rows = loaded.polycodec_rows
        self.cost = loaded.polycodec_cost
        self.encode_pass = loaded.polycodec_encode_pass
        self.decode_pass = loaded.polycodec_decode_pass
        self.prior_rows = loaded.polycodec_prior_rows
        self.decode_prior = loaded.polycodec_decode_prior
        self.best_simd: int = loaded.polycodec_simd()
        # Of builds since it is there; without it the search takes torch.
        self.trellis = getattr(loaded, "polycodec_trellis", None)
        if self.trellis is not None:
            self.trellis.restype, self.trellis.argtypes = _TRELLIS
        self._crc32c = loaded.polycodec_crc32c

    def crc32c(
        self, data: bytes | memoryview, value: int = 0, *, plain: bool = False
    ) -> int:
        """Do :func:`polycodec.cuda.crc32c`; ``plain``: without the instruction."""
        octets = np.frombuffer(data, dtype=np.uint8)
        found = self._crc32c(octets.ctypes.data, octets.size, value & 0xFFFFFFFF, plain)
        return int(found)


@functools.lru_cache(maxsize=1)
def _load() -> tuple[Library | None, str]:
    """Return the library, or None and the reason."""
    reason = f"no {PATH.name} in {PATH.parent}"
    if PATH.is_file():
        try:
            found = Library(PATH)
            logger.debug("%s, with %s", PATH, SIMD[found.best_simd])
            return found, ""
        except OSError as error:
            reason = str(error)
    logger.info("no C library, NumPy codes instead and is slow: %s", reason)
    return None, reason


def library() -> Library | None:
    """Return the loaded C library, or None: NumPy does the work then."""
    return _load()[0]


def loaded() -> Library:
    """Return the loaded C library; raises UsageError where there is none."""
    found, reason = _load()
    if found is None:
        raise UsageError(
            f"the native coder is not at hand: {reason}; build it with "
            "'python -m polycodec.cuda.host.build' or use POLYCODEC_CODER=numpy"
        )
    return found


def reason() -> str:
    """Return why there is no library; empty when there is one."""
    return _load()[1]


def simd() -> int:
    """Return what the library may use, a place in ``SIMD``.

    The best that the processor can do, or what POLYCODEC_SIMD names; UsageError when
    that is no name or more than the processor can do.
    """
    best = loaded().best_simd
    name = os.environ.get("POLYCODEC_SIMD", "")
    if not name:
        return best
    if name not in SIMD or SIMD.index(name) > best:
        raise UsageError(
            f"POLYCODEC_SIMD is '{name}'; this processor has {SIMD[: best + 1]}"
        )
    return SIMD.index(name)
