# SPDX-License-Identifier: Apache-2.0
"""Kernels for a device, compiled from kernels.cu by NVRTC, without nvcc.

    image = kernels((9, 0))    a cubin for compute capability 9.0, from the disk cache
                               or compiled now (seconds, once); usual ones come
                               with the package (prebuild.py)

NVRTC comes with torch's CUDA wheels. The cache's key is the hash of sources, options,
target and NVRTC's version; files appear under their name at once or not at all, so
processes may race. POLYCODEC_CACHE, or else XDG_CACHE_HOME, moves the cache. No GPU
and no driver are needed here.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import hashlib
import importlib.util
import logging
import os
import pathlib
import re
import sys
import tempfile
import time
from typing import Any

from polycodec.errors import InputError, UsageError
from polycodec.home import own_folder

logger = logging.getLogger(__name__)
SOURCE = "kernels.cu"
# As the sources include them, from this folder.
HEADERS = (
    *("priors.h", "tables.h", "pass.h", "kernels.h"),
    *("../priors/priors.h", "../core.h"),
)
OPTIONS = ("--std=c++17",)
_NO_CACHE = (OSError, InputError)  # not there, not ours to read; a user without home
_LIBRARY = re.compile(r"libnvrtc\.so\.(\d+)|nvrtc64_(\d+)_0\.dll")
_BUILTINS = ("libnvrtc-builtins.so.*", "nvrtc-builtins64_*.dll")


def cache_folder() -> pathlib.Path:
    """Return where compiled code is kept; it may not exist yet.

    InputError for a user without a home.
    """
    own = os.environ.get("POLYCODEC_CACHE")
    if own:
        return pathlib.Path(own)
    return own_folder("cache")


def find_library() -> pathlib.Path | None:
    """Return NVRTC's library file, or None.

    Looked for in the nvidia packages that torch brings (CUDA 12 has a folder for
    each library, CUDA 13 one for all), then where the system has its libraries. Of
    several, the one of torch's own CUDA version, or else the newest.
    """
    spec = importlib.util.find_spec("nvidia")
    found: dict[int, pathlib.Path] = {}
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for kind in ("lib", "bin", "bin/x86_64"):
            for path in pathlib.Path(folder).glob(f"*/{kind}/*nvrtc*"):
                match = _LIBRARY.fullmatch(path.name)
                if match:
                    number = int(match[1] or match[2])
                    found[number if number < 100 else number // 10] = path
    if not found:
        system = ctypes.util.find_library("nvrtc")  # of a CUDA toolkit
        return pathlib.Path(system) if system else None
    torch = sys.modules.get("torch")
    version = getattr(getattr(torch, "version", None), "cuda", None) or "0"
    return found.get(int(version.split(".")[0]), found[max(found)])


class Compiler:
    """NVRTC, loaded; raises UsageError when it is not there."""

    def __init__(self) -> None:
        path = find_library()
        if path is None:
            raise UsageError(
                "NVRTC, which compiles the coder's CUDA kernels, is not installed; "
                "install torch's CUDA wheel with its dependencies, or "
                "'pip install nvidia-cuda-nvrtc', or code on the CPU"
            )
        try:
            # NVRTC looks its second half up by name only: have it in memory before.
            for pattern in _BUILTINS if path.is_absolute() else ():
                for half in path.parent.glob(pattern):
                    ctypes.CDLL(str(half), mode=ctypes.RTLD_GLOBAL)
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise UsageError(f"NVRTC at {path} cannot be loaded: {error}") from error
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("Version", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self._library, f"nvrtc{name}")(*args)
        if status:
            text = self._library.nvrtcGetErrorString(status).decode()
            raise UsageError(f"NVRTC's {name} failed: {text}")

    def capabilities(self) -> list[int]:
        """Return the compute capabilities it compiles for, such as 90, ascending."""
        count = ctypes.c_int()
        self._call("GetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("GetSupportedArchs", numbers)
        return sorted(numbers)

    def compile(
        self, target: str, options: tuple[str, ...] = OPTIONS
    ) -> tuple[bytes, str]:
        """Compile the kernels for "sm_90" (a cubin) or "compute_90" (PTX).

        Returns the image and the log. Raises UsageError with the log on failure.
        """
        program, (source, *headers) = ctypes.c_void_p(), _texts()
        names = [name.encode() for name in HEADERS]
        texts = (ctypes.c_char_p * len(headers))(*headers)
        name, many = SOURCE.encode(), (ctypes.c_char_p * len(names))(*names)
        made = (ctypes.byref(program), source, name, len(names), texts, many)
        self._call("CreateProgram", *made)
        try:
            flags = [f"--gpu-architecture={target}".encode()]
            flags += [option.encode() for option in options]
            array = (ctypes.c_char_p * len(flags))(*flags)
            failed = self._library.nvrtcCompileProgram(program, len(flags), array)
            log = self._get(program, "ProgramLog").rstrip(b"\0").decode()
            if failed:
                raise UsageError(f"NVRTC failed on {SOURCE} for {target}:\n{log}")
            kind = "CUBIN" if target.startswith("sm_") else "PTX"
            return self._get(program, kind), log
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, buffer)
        return buffer.raw


@functools.lru_cache(maxsize=1)
def compiler() -> Compiler:
    """Return NVRTC; raises UsageError when it is not installed."""
    return Compiler()


def _texts() -> list[bytes]:
    folder = pathlib.Path(__file__).resolve().parent
    return [(folder / name).read_bytes() for name in (SOURCE, *HEADERS)]


def target_for(capability: tuple[int, int], supported: list[int]) -> str:
    """Return the best target for a device: its own, an older of its family, or PTX.

    Machine code runs on later devices of the same major number only; PTX is
    compiled by the driver for any later one.
    """
    own = capability[0] * 10 + capability[1]
    below = [number for number in supported if number <= own]
    if not below:
        raise UsageError(
            f"this NVRTC compiles for {supported[0] / 10} and later; the device has "
            f"compute capability {own / 10}; code on the CPU"
        )
    return f"{'sm' if below[-1] // 10 == capability[0] else 'compute'}_{below[-1]}"


def digest(target: str, *more: str) -> str:
    """Return the key of what today's sources and options make for a target, in hex."""
    hashed = hashlib.sha256()
    for part in (*_texts(), *(text.encode() for text in (*OPTIONS, target, *more))):
        hashed.update(len(part).to_bytes(8, "little") + part)
    return hashed.hexdigest()


def kernels(capability: tuple[int, int]) -> bytes:
    """Return the kernels' image for a device, ready for the driver to load."""
    nvrtc = compiler()
    target = target_for(capability, nvrtc.capabilities())
    version = "{}.{}".format(*nvrtc.version)
    name = f"rans-{target}-{digest(target, version)[:24]}.bin"
    with contextlib.suppress(*_NO_CACHE):
        image = (cache_folder() / name).read_bytes()
        logger.debug("kernels for %s are those of %s", target, name)
        return image
    started = time.perf_counter()
    image, _ = nvrtc.compile(target)
    seconds = time.perf_counter() - started
    logger.info("kernels for %s compiled in %.1f s, for %s", target, seconds, name)
    _keep(name, image)
    return image


def _keep(name: str, image: bytes) -> None:
    """Write the cache's file in one go; a cache that cannot be written is no error."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=folder)
    except _NO_CACHE:
        return  # a read-only home: compile again next time
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(image)
        os.replace(fresh, folder / name)
    except OSError:
        pathlib.Path(fresh).unlink(missing_ok=True)
