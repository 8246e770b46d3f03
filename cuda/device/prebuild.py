# SPDX-License-Identifier: Apache-2.0
"""CUDA kernels that are compiled already, for the usual architectures.

    python -m polycodec.cuda.device.prebuild    write all of TARGETS; needs no GPU
    found = image((9, 0))                       the cubin for a device, or None

    prebuilt/sm_90.kernels   key, target, compiler  (one line of text)
                             the cubin, xz

The key is nvrtc.digest of sources, options and target. A file that is missing, was made
of other sources or is damaged counts for nothing: the kernels are then compiled at
first use, as they are for other architectures and for drivers that are older than the
compiler of these files (NVRTC 13.0) can serve.

Why they are kept: seven cubins have 2.5 MB, packed 0.31 MB, while a first compile takes
3.5 s (sm_90) to 4.9 s (sm_120) on one quiet core of a Sapphire Rapids server, several
times that on a busy one, and needs NVRTC. A cubin runs on later devices of its family,
but not on the embedded ones among them: only a device's own is taken.
"""

from __future__ import annotations

import pathlib
import sys

from polycodec.cuda.device import nvrtc

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
FOLDER = pathlib.Path(__file__).resolve().parent / "prebuilt"
_MOST = 4 << 20  # bytes of a cubin; they have about 400 thousand
_MEMORY = 32 << 20  # bytes that unpacking may take


def image(capability: tuple[int, int], folder: pathlib.Path = FOLDER) -> bytes | None:
    """Return the kernels for a compute capability, of today's sources, or None."""
    target = "sm_{}{}".format(*capability)
    try:
        import lzma  # some builds of Python lack it

        data = (folder / f"{target}.kernels").read_bytes()
    except (ImportError, OSError):
        return None
    head, _, packed = data.partition(b"\n")
    if head.split(b" ")[0] != nvrtc.digest(target).encode():
        return None
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        found = unpacker.decompress(packed, _MOST)
    except lzma.LZMAError:
        return None
    return found if unpacker.eof else None


def write(target: str, folder: pathlib.Path = FOLDER) -> int:
    """Compile for a target, such as "sm_90", write its file and return its size."""
    import lzma

    compiler = nvrtc.compiler()
    cubin, _ = compiler.compile(target)
    version = "{}.{}".format(*compiler.version)
    head = f"{nvrtc.digest(target)} {target} NVRTC {version}\n".encode()
    data = head + lzma.compress(cubin, preset=6 | lzma.PRESET_EXTREME)
    folder.mkdir(exist_ok=True)
    (folder / f"{target}.kernels").write_bytes(data)
    return len(data)


def main() -> None:
    """Write the targets named, or all."""
    for target in sys.argv[1:] or TARGETS:
        print(f"{target}: {write(target)} bytes", flush=True)


if __name__ == "__main__":
    main()
