# SPDX-License-Identifier: Apache-2.0
"""Compile the C library in place: ``python -m polycodec.cuda.host.build``.

For checkouts that are not installed, and for work on the C++ sources; an install
compiles the same sources through pyproject.toml. Portable flags on purpose: the
library must run on any processor of its family.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import sysconfig

SOURCES = (
    *("host.cpp", "scalar.cpp", "avx2.cpp", "neon.cpp"),
    *("avx512_decode.cpp", "avx512_encode.cpp", "crc32c.cpp"),
    *("priors.cpp", "priors_avx512.cpp", "categorical_avx512.cpp"),
)
FLAGS = ("-O3", "-std=c++14", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")


def main() -> int:
    """Compile with the system's C++ compiler; return its exit status."""
    folder = pathlib.Path(__file__).resolve().parent
    compiler = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
    # To another name first: a running process may have the old one mapped.
    fresh, final = folder / "_rans.new", folder / f"_rans{suffix}"
    command = [compiler, *FLAGS, *(str(folder / s) for s in SOURCES), "-o", str(fresh)]
    print(*command, file=sys.stderr)
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        fresh.replace(final)
        print(final)
    return status


if __name__ == "__main__":
    sys.exit(main())
