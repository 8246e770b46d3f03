# SPDX-License-Identifier: Apache-2.0
"""A CUDA device: torch's memory and stream, our kernels.

    device = on(tensor.device)
    encoder = BatchEncoder(B, device)

Buffers are torch tensors, so that torch's allocator and streams apply; kernels are
launched on torch.cuda.current_stream() through the driver's C interface (libcuda, by
ctypes). torch is imported when a device is asked for, not before.

Reference: CUDA driver API, modules and execution control.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.cuda.device import nvrtc
from polycodec.errors import InputError, UsageError
from polycodec.forking import fork_safe

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# Numbers of the driver's header.
_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_SHARED_OPTIN = 97  # CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
# Larger tables in shared memory would leave room for only one block on a processor:
# those are read through the caches instead.
_TABLE_BYTES = 96 << 10


@functools.lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UsageError(
            f"no CUDA driver: {error}; install NVIDIA's driver or code on the CPU"
        ) from error


def _call(name: str, *args: Any) -> None:
    """Call the driver; raises UsageError with the driver's message."""
    status = getattr(_driver(), name)(*args)
    if status:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        message = (text.value or b"unknown error").decode()
        raise UsageError(f"the CUDA driver's {name} failed ({status}): {message}")


def _load(capability: tuple[int, int]) -> tuple[ctypes.c_void_p, str]:
    """Return the kernels' module, and whether they are "prebuilt" or "compiled".

    A driver that is older than the prebuilt ones' compiler refuses them.
    """
    from polycodec.cuda.device import prebuild

    module, ready = ctypes.c_void_p(), prebuild.image(capability)
    if ready and not _driver().cuModuleLoadData(ctypes.byref(module), ready):
        return module, "prebuilt"
    _call("cuModuleLoadData", ctypes.byref(module), nvrtc.kernels(capability))
    return module, "compiled"


class Device:
    """One GPU: buffers, copies and launches.

    Everything happens on torch's current stream of this device, in order.
    """

    threads = 256  # per block; the kernels are compiled for it

    def __init__(self, index: int) -> None:
        """Load the kernels; raises UsageError without driver, NVRTC or device."""
        import torch

        self.torch, self.device = torch, torch.device("cuda", index)
        with torch.cuda.device(self.device):
            # The first allocation makes torch's context, which the driver then uses.
            torch.empty(1, device=self.device)
            properties = torch.cuda.get_device_properties(self.device)
            self.processors = properties.multi_processor_count
            handle, optin = ctypes.c_int(), ctypes.c_int()
            _call("cuDeviceGet", ctypes.byref(handle), index)
            _call("cuDeviceGetAttribute", ctypes.byref(optin), _SHARED_OPTIN, handle)
            self._optin = optin.value
            self.shared_limit = min(optin.value, _TABLE_BYTES)
            self._context = ctypes.c_void_p()
            _call("cuCtxGetCurrent", ctypes.byref(self._context))
            self._module, self.kernels = _load((properties.major, properties.minor))
        self._functions: dict[str, ctypes.c_void_p] = {}

    def stream(self) -> int:
        """Return torch's current stream of this device.

        What was copied on one stream may not have arrived when another one reads it,
        and its memory may be given away while another one still does: whoever keeps a
        buffer keeps one for each stream.
        """
        return int(self.torch.cuda.current_stream(self.device).cuda_stream)

    def empty(self, count: int, dtype: DTypeLike) -> torch.Tensor:
        """Return a buffer of ``count`` items of ``dtype``, as bytes."""
        size = count * np.dtype(dtype).itemsize
        return self.torch.empty(size, dtype=self.torch.uint8, device=self.device)

    def upload(self, array: np.ndarray) -> torch.Tensor:
        """Return a buffer with the array's content; does not wait for the device."""
        octets = np.array(array, order="C").reshape(-1).view(np.uint8)
        pinned = self.torch.from_numpy(octets).pin_memory() if octets.size else None
        if pinned is None:
            return self.empty(0, np.uint8)
        return pinned.to(self.device, non_blocking=True)

    def download(self, buffer: torch.Tensor, dtype: DTypeLike) -> np.ndarray:
        """Return a buffer's content as a flat array; waits for the device."""
        return buffer.reshape(-1).cpu().numpy().view(dtype)

    def join(self, buffers: list[torch.Tensor]) -> torch.Tensor:
        """Return one buffer with the contents of all."""
        return self.torch.cat(buffers)

    def pointer(self, buffer: torch.Tensor) -> int:
        """Return a buffer's address on the device."""
        return buffer.data_ptr()

    def plane(
        self,
        values: torch.Tensor,
        name: str,
        *,
        copy: bool,
        kinds: tuple[str, ...] = ("uint8", "int32"),
    ) -> torch.Tensor:
        """Return (B, n) values of one of ``kinds``; ``copy``: in memory of its own."""
        torch = self.torch
        fits = isinstance(values, torch.Tensor) and values.device == self.device
        if not fits or values.dtype not in [getattr(torch, kind) for kind in kinds]:
            where = getattr(values, "device", type(values).__name__)
            kind = getattr(values, "dtype", "no tensor")
            raise InputError(
                f"{name} are {kind} on {where}; expected {' or '.join(kinds)} on "
                f"{self.device}; convert them first"
            )
        if values.dim() != 2:
            raise InputError(
                f"{name} have shape {tuple(values.shape)}; expected (batch, n)"
            )
        values = values.detach()
        if copy:
            return values.clone(memory_format=torch.contiguous_format)
        return values.contiguous()

    def symbols(self, batch: int, n: int) -> torch.Tensor:
        """Return room for (B, n) int32."""
        return self.torch.empty((batch, n), dtype=self.torch.int32, device=self.device)

    def launch(
        self,
        kernel: str,
        args: ctypes.Structure,
        grid: tuple[int, int],
        threads: int,
        shared: int,
    ) -> None:
        """Launch a kernel on torch's current stream; does not wait for it."""
        with self.torch.cuda.device(self.device):
            # In a fresh thread torch's context is current only after torch's own work.
            _call("cuCtxSetCurrent", self._context)
            function = self._functions.get(kernel) or self._function(kernel)
            # The driver copies the arguments before it returns.
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(args))
            numbers = (ctypes.c_uint(n) for n in (*grid, 1, threads, 1, 1, shared))
            handle = ctypes.c_void_p(self.stream())
            _call("cuLaunchKernel", function, *numbers, handle, pointers, None)

    def _function(self, kernel: str) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        name = kernel.encode()
        _call("cuModuleGetFunction", ctypes.byref(function), self._module, name)
        if kernel.endswith(("_near", "_large")):
            limit = ctypes.c_int(self._optin)
            _call("cuFuncSetAttribute", function, _MAX_DYNAMIC_SHARED, limit)
        self._functions[kernel] = function
        return function


# Two threads must not make two devices of one GPU.
_LOCK = fork_safe(threading.Lock())


@functools.cache
def _device(index: int) -> Device:
    return Device(index)


def on(device: torch.device | str | int) -> Device:
    """Return a CUDA device with its kernels loaded, the same one every time.

    Raises UsageError when torch sees no such device, or without NVRTC.
    """
    import torch

    if not torch.cuda.is_available():
        raise UsageError("torch sees no CUDA device; code on the CPU")
    device = torch.device("cuda", device) if isinstance(device, int) else device
    device = torch.device(device)
    if device.type != "cuda":
        raise UsageError(f"'{device}' is no CUDA device")
    with _LOCK:
        return _device(_index(device))


def _index(device: torch.device) -> int:
    """The number of a device; "cuda" alone is the one of now, another one later."""
    import torch

    if device.index is None and torch.cuda.is_available():
        return torch.cuda.current_device()
    return device.index or 0


def runtime_of(device: torch.device) -> Device | None:
    """Return the coder on a tensor's device, or None where the host codes.

    The host codes for every device but CUDA's, where POLYCODEC_CODER names one of its
    back ends, and, with one warning, where driver or NVRTC are missing.
    """
    forced = os.environ.get("POLYCODEC_CODER", "auto") or "auto"
    if device.type != "cuda" or forced != "auto":
        return None
    return _usable(_index(device))


@functools.cache
def _usable(index: int) -> Device | None:
    try:
        return on(index)
    except UsageError as error:
        warnings.warn(
            f"the entropy coder runs on the CPU, its bytes are the same: {error}",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
