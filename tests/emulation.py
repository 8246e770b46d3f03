# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels on the host, for tests: kernels.cu compiled by a C++ compiler.

    runtime = Emulator()             instead of a device's runtime (driver.py)
    encoder = BatchEncoder(1, runtime)

emulation.cpp runs each thread as a fiber, in an order that changes from round to
round. Buffers are NumPy arrays between guards, which show writes outside of them.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pathlib
import subprocess
import sysconfig
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from polycodec.cuda.device import layouts, nvrtc
from polycodec.cuda.device.nvrtc import cache_folder
from polycodec.errors import InputError, UsageError

SOURCE = pathlib.Path(__file__).with_suffix(".cpp")
DEVICE = pathlib.Path(nvrtc.__file__).parent
FLAGS = ("-O1", "-std=c++14", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-fPIC")
_GUARD = 64  # bytes on both sides of every buffer
_OUTCOMES = (
    "fine",
    "no such kernel",
    "a vote or barrier that nobody joins",
    "bad launch",
)


def build(flags: tuple[str, ...] = FLAGS) -> pathlib.Path:
    """Compile the emulation unless the cache has it; return the library's path.

    Raises UsageError where there is no compiler, or not the system for it.
    """
    if os.name != "posix":
        raise UsageError("the emulation of the CUDA kernels needs a POSIX system")
    compiler = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    kernels = (DEVICE / name for name in (nvrtc.SOURCE, *nvrtc.HEADERS))
    text = b"\0".join(path.read_bytes() for path in (SOURCE, *kernels))
    digest = hashlib.sha256(text + " ".join((compiler, *flags)).encode()).hexdigest()
    final = cache_folder() / f"emulation-{digest[:24]}.so"
    if final.is_file():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent) as folder:
        fresh = pathlib.Path(folder) / "fresh.so"
        command = [compiler, *flags, "-shared", "-fvisibility=hidden"]
        command += [f"-I{DEVICE.parent}", str(SOURCE), "-o", str(fresh)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UsageError(f"no C++ compiler '{compiler}': {error}") from error
        if done.returncode:
            raise UsageError(f"{compiler} failed on the emulation:\n{done.stderr}")
        fresh.replace(final)
    return final


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Return the compiled emulation; raises UsageError, see :func:`build`."""
    loaded = ctypes.CDLL(str(build()))
    loaded.polycodec_emulate.argtypes = (ctypes.c_char_p, ctypes.c_void_p) + (
        ctypes.c_uint32,
    ) * 5
    mirrors = (
        *(layouts.CHUNK.itemsize, layouts.WARP_CHUNKS.itemsize),
        *(ctypes.sizeof(layouts.Pass), layouts.FOUND.itemsize),
        *(ctypes.sizeof(layouts.Survey), ctypes.sizeof(layouts.Collect)),
        *(ctypes.sizeof(layouts.Checksum), ctypes.sizeof(layouts.PriorPass)),
        ctypes.sizeof(layouts.PriorSurvey),
    )
    found = tuple(loaded.polycodec_emulated_sizeof(i) for i in range(len(mirrors)))
    assert found == mirrors, f"device/layouts.py has {mirrors} bytes, kernels.h {found}"
    return loaded


def missing() -> str:
    """Return why there is no emulation here, or nothing."""
    try:
        library()
    except UsageError as error:
        return str(error)
    return ""


class Emulator:
    """What `driver.Device` does; buffers are NumPy arrays.

    shared_limit: bytes of tables in shared memory. seed: of the threads' order.
    """

    threads = 64  # per block; a device takes 256, fewer are faster here
    processors = 2

    def __init__(self, shared_limit: int = 48 << 10, seed: int = 1) -> None:
        self.shared_limit = shared_limit
        self._library, self._seed = library(), seed
        self._guarded: list[np.ndarray] = []

    def stream(self) -> int:
        """Return the stream in use: there is one."""
        return 0

    def empty(self, count: int, dtype: DTypeLike) -> np.ndarray:
        """Return a buffer of ``count`` items that hold nothing of use."""
        size = count * np.dtype(dtype).itemsize
        # A multiple of the largest item, so that the buffer is aligned.
        whole = np.full(size + 2 * _GUARD + -size % 16, 0xA5, np.uint8)
        self._guarded.append(whole)
        inner = whole[_GUARD : _GUARD + size].view(dtype)
        inner.setflags(write=True)
        return inner

    def upload(self, array: np.ndarray) -> np.ndarray:
        """Return a buffer with the array's content."""
        buffer = self.empty(array.size, array.dtype)
        buffer[:] = array.reshape(-1)
        return buffer

    def download(self, buffer: np.ndarray, dtype: DTypeLike) -> np.ndarray:
        """Return a buffer's content as a flat array of ``dtype``."""
        return buffer.copy().reshape(-1).view(dtype)

    def join(self, buffers: list[np.ndarray]) -> np.ndarray:
        """Return one buffer with the contents of all."""
        return np.concatenate(buffers)

    def pointer(self, buffer: np.ndarray) -> int:
        """Return a buffer's address."""
        return buffer.ctypes.data

    def plane(
        self,
        values: Any,
        name: str,
        *,
        copy: bool,
        kinds: tuple[str, ...] = ("uint8", "int32"),
    ) -> np.ndarray:
        """Return (B, n) values of ``kinds`` in a buffer; ``copy``: one of its own."""
        array = np.asarray(values)
        if array.ndim != 2 or array.dtype.name not in kinds:
            raise InputError(
                f"{name} are {array.dtype} of shape {array.shape}; expected "
                f"{' or '.join(kinds)} of shape (batch, n)"
            )
        return self.upload(array).reshape(array.shape)

    def symbols(self, batch: int, n: int) -> np.ndarray:
        """Return room for (B, n) int32."""
        return self.empty(batch * n, np.int32).reshape(batch, n)

    def launch(
        self,
        kernel: str,
        args: ctypes.Structure,
        grid: tuple[int, int],
        threads: int,
        shared: int,
    ) -> None:
        """Run a kernel to its end; asserts that no buffer's guard was touched."""
        self._seed = (self._seed * 69069 + 1) % (1 << 32)
        outcome = self._library.polycodec_emulate(
            kernel.encode(), ctypes.addressof(args), *grid, threads, shared, self._seed
        )
        assert outcome == 0, f"{kernel}: {_OUTCOMES[outcome]}"
        for whole in self._guarded:
            clean = (whole[:_GUARD] == 0xA5).all() and (whole[-_GUARD:] == 0xA5).all()
            assert clean, f"{kernel} wrote outside a buffer"
