# SPDX-License-Identifier: Apache-2.0
"""polycodec: learned codecs for images, video and speech with real bitstreams.

    import polycodec
    polycodec.encode("photo.png", "photo.plc", quality=60)
    polycodec.decode("photo.plc", "photo.png")
    polycodec.encode("talk.flac", target_kbps=3)  # speech, the same calls

    codec = polycodec.load("image/default")      # nn.Module
    data = codec.compress(x)                     # x: (B, 3, H, W) float in [0, 1]
    x_hat = codec.decompress(data)

The names are handed on lazily, so that ``import polycodec`` costs nothing and
``polycodec info`` never loads torch.
"""

from __future__ import annotations

import importlib
import pathlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "load": "polycodec.codecs.zoo",
    "models": "polycodec.codecs.zoo",
    "encode": "polycodec.codecs.files.api",
    "decode": "polycodec.codecs.files.api",
    "tokens": "polycodec.codecs.files.tokens.convert",
    "info": "polycodec.codecs.files.container.inspect",
    "verify": "polycodec.codecs.files.container.inspect",
}
__all__ = ["__version__", *_LAZY]

# An uninstalled checkout works too: its folders stand beside this one.
_ROOT = pathlib.Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "codecs").is_dir():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'polycodec' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)
