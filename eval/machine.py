# SPDX-License-Identifier: Apache-2.0
"""What figures depend on: the processor, what of it is used, versions."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any


def machine() -> dict[str, Any]:
    """Return the processor, what our coder and networks use of it, and versions."""
    import numpy
    import torch

    import polycodec
    from polycodec.cuda.host import library as native

    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii") as file:
        names = [line.split(":")[1] for line in file if line.startswith("model name")]
        model = names[0].strip() if names else model
    library = native.library()
    return {
        "processor": model,
        "simd": "none" if library is None else native.SIMD[library.best_simd],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "polycodec": polycodec.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def described(facts: dict[str, Any]) -> str:
    """Return facts as words: "Pillow 12.1, libavif 1.4, speed 4"."""
    parts = []
    for name, value in facts.items():
        if isinstance(value, dict):
            parts.append(described(value))
        else:
            parts.append(f"{name} {value}")
    return ", ".join(part for part in parts if part)
