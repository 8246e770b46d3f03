# SPDX-License-Identifier: Apache-2.0
"""Our codecs as CompressAI's tools see models: its own evaluation, run unmodified.

    python -m polycodec.eval.image.compressai pretrained DIR -a image/default -q 20,50

hands the command line to `compressai.utils.eval_model`, which now finds our models in
its zoo: by name, or as NAME@RUN. Its qualities are ours, 0 to 100. The other way, a
checkpoint of CompressAI's coded by our coder, is `codecs/families/compressai.py`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.codecs import zoo
from polycodec.errors import ModelError


class AsCompressAI(nn.Module):
    """A codec of ours for images at one quality, called as CompressAI's models are."""

    def __init__(self, name: str, quality: float = 50.0) -> None:
        super().__init__()
        model, _, run = name.partition("@")
        self.codec = zoo.load(model, checkpoint=run or None)
        self.quality = float(quality)

    def update(self, *_: Any, **__: Any) -> bool:
        """Tables were frozen when the codec was exported: nothing changes."""
        return False

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Images (B, 3, H, W) in [0, 1] -> one list of B strings, and their size."""
        data = self.codec.compress(x, self.quality)
        return {"strings": [data], "shape": x.shape[-2:]}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Any
    ) -> dict[str, Tensor]:
        """Strings -> ``x_hat`` (B, 3, H, W)."""
        return {"x_hat": self.codec.decompress(list(strings[0]))}

    @torch.inference_mode()
    def forward(self, x: Tensor) -> dict[str, Any]:
        """Estimate: ``x_hat``, and likelihoods whose product is that of all symbols."""
        codec, level = self.codec, self.codec.level_of(self.quality)
        codes = codec.encode_codes(x, level)
        coded = codec.write(codes, level)
        x_hat = codec.decode_codes(coded.codes, level, x.shape[2:])
        each = x[0].numel()  # one likelihood would be too small for a float
        bits = x.new_tensor(coded.estimated_bits) / each
        likelihoods = torch.exp(-math.log(2) * bits)[:, None].expand(-1, each)
        return {"x_hat": x_hat, "likelihoods": {"all": likelihoods}}


def _build(name: str, quality: float, **_: Any) -> AsCompressAI:
    return AsCompressAI(name, quality)


def register(*names: str) -> None:
    """Put our models for images into CompressAI's zoo, and NAME@RUN of ``names``."""
    try:
        from compressai.zoo import image_models
    except ImportError as error:
        raise ModelError(
            f"CompressAI is not here ({error}); expected it for its own evaluation; "
            "pip install 'polycodec[compressai]'"
        ) from error
    known = [card["name"] for card in zoo.models() if card["modality"] == "image"]
    for name in (*known, *names):
        image_models[name] = functools.partial(_build, name)


def main(argv: Sequence[str] | None = None) -> None:
    """Run CompressAI's evaluation on our models; see the head of this file."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    register(*(word for word in arguments if "@" in word and "/" in word))
    from compressai.utils.eval_model.__main__ import main as run

    run(arguments)


if __name__ == "__main__":
    main()
