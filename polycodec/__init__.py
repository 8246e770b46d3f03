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
from typing import TYPE_CHECKING, Any

from polycodec import errors

__version__ = "0.1.0"

# An uninstalled checkout works too: its folders stand beside this one.
_ROOT = pathlib.Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "codecs").is_dir():
    __path__.append(str(_ROOT))

_LAZY = {
    "polycodec.codecs.zoo": ("load", "models"),
    "polycodec.codecs.base": ("Codec",),
    "polycodec.codecs.synthesis": ("Synthesis",),
    "polycodec.codecs.files.api": ("encode", "decode"),
    "polycodec.codecs.files.workers": ("Decoder", "Encoder"),
    "polycodec.codecs.files.features.encode": ("features", "features_of"),
    "polycodec.codecs.files.features.classify": ("classify", "classify_all"),
    "polycodec.codecs.files.dataset": ("PlcDataset",),
    "polycodec.codecs.files.sets.pack": ("pack",),
    "polycodec.codecs.files.sets.unpack": ("unpack",),
    "polycodec.codecs.files.container.inspect": ("info", "verify"),
    "polycodec.codecs.files.tokens.convert": ("latents", "tokens"),
    "polycodec.codecs.files.tokens.file": ("ImageTokens", "Latents", "Tokens"),
    "polycodec.codecs.files.results": (
        "Classified",
        "FeaturesEncoded",
        "ImageEncoded",
        "ImageDecoded",
        "Packed",
        "SpeechEncoded",
        "SpeechDecoded",
        "Unpacked",
        "VideoEncoded",
        "VideoDecoded",
    ),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec
    from polycodec.codecs.files.api import decode, encode
    from polycodec.codecs.files.container.inspect import info, verify
    from polycodec.codecs.files.dataset import PlcDataset
    from polycodec.codecs.files.features.classify import classify, classify_all
    from polycodec.codecs.files.features.encode import features, features_of
    from polycodec.codecs.files.results import (
        Classified,
        FeaturesEncoded,
        ImageDecoded,
        ImageEncoded,
        Packed,
        SpeechDecoded,
        SpeechEncoded,
        Unpacked,
        VideoDecoded,
        VideoEncoded,
    )
    from polycodec.codecs.files.sets.pack import pack
    from polycodec.codecs.files.sets.unpack import unpack
    from polycodec.codecs.files.tokens.convert import latents, tokens
    from polycodec.codecs.files.tokens.file import ImageTokens, Latents, Tokens
    from polycodec.codecs.files.workers import Decoder, Encoder
    from polycodec.codecs.synthesis import Synthesis
    from polycodec.codecs.zoo import load, models
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'polycodec' has no attribute '{name}'")
        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Classified",
    "Codec",
    "Decoder",
    "Encoder",
    "FeaturesEncoded",
    "ImageDecoded",
    "ImageEncoded",
    "ImageTokens",
    "Latents",
    "Packed",
    "PlcDataset",
    "SpeechDecoded",
    "SpeechEncoded",
    "Synthesis",
    "Tokens",
    "Unpacked",
    "VideoDecoded",
    "VideoEncoded",
    "__version__",
    "classify",
    "classify_all",
    "decode",
    "encode",
    "errors",
    "features",
    "features_of",
    "info",
    "latents",
    "load",
    "models",
    "pack",
    "tokens",
    "unpack",
    "verify",
]
