# SPDX-License-Identifier: Apache-2.0
"""Compile the C library in place: ``python -m polycodec.cuda.host.build``.

For checkouts that are not installed, and for work on the C++ sources; an install
compiles the same sources through setup.py. Portable flags on purpose: the
library must run on any processor of its family.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig

from polycodec.cuda.host.library import PATH

FOLDER = PATH.parent
SOURCES = tuple(sorted(path.name for path in FOLDER.glob("*.cpp")))
FLAGS = ("-O3", "-std=c++14", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")


def main() -> int:
    """Compile with the system's C++ compiler; return its exit status."""
    compiler = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    # To another name first: a running process may have the old one mapped.
    fresh = FOLDER / "_rans.new"
    command = [compiler, *FLAGS, *(str(FOLDER / s) for s in SOURCES), "-o", str(fresh)]
    print(*command, file=sys.stderr)
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        fresh.replace(PATH)
        print(PATH)
    return status


if __name__ == "__main__":
    sys.exit(main())
