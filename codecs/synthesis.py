# SPDX-License-Identifier: Apache-2.0
"""The decoder behind the entropy coder as one network, for programs without Python.

    codec.latents(data) ─ codes ─► Synthesis ─► signals       level: the rate
                                   dequantize, g_s, clamp

    torch.export    Synthesis(codec).program()        batch and sizes stay free
    ONNX            Synthesis(codec).onnx("image.onnx")

What decides is done before: codes are integers, and the entropy coder stays in Python
or C. So another runtime may change samples by a rounding, never what was sent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.atomic import check_target
from polycodec.codecs.base import Codec
from polycodec.errors import ModelError

EXAMPLE = 3  # positions along each axis of what is traced; any other number may come


class Synthesis(nn.Module):
    """Signals of codes: images (B, 3, 16 h, 16 w) in [0, 1] of (B, C, h, w), speech
    (B, 1, hop n) in [-1, 1] of (B, C, n), before they are cut to their size; of codecs
    of features logits (B, classes).

    ``planes``: of the codes, of a token codec fewer than all for a coarser signal.
    ModelError for fitted networks: their codes are networks.
    """

    def __init__(self, codec: Codec, planes: int | None = None) -> None:
        super().__init__()
        if codec.fitted:
            raise ModelError(
                f"'{codec.name}' fits a network to each signal: there is none that "
                "decodes them all; expected a codec of latents or of tokens"
            )
        self.codec = codec
        self.tokens = codec.entropy is not None and codec.entropy.codes == "tokens"
        self.planes = planes or codec.planes(codec.levels)
        self.eval()

    def forward(self, codes: Tensor, level: Tensor) -> Tensor:
        """Signals of codes (B, C, *S) as `Codec.latents` has them, levels (B,) float32.

        level: `Codec.level_of` of the quality; of token codecs the planes say it, and
        any will do.
        """
        codec: Any = self.codec
        z_hat = codec.dequantize(codes if self.tokens else codes.float(), level)
        x_hat = codec.signal.restored(codec.synthesise(z_hat, level)).float()
        made: Tensor = codec.signal.cut(x_hat, x_hat.shape[2:])
        return made

    def example(self) -> tuple[Tensor, Tensor]:
        """Codes, of the type that `Codec.latents` gives, and levels to trace with: two
        signals of EXAMPLE positions a side."""
        entropy, device = self.codec.entropy, self.codec.device
        whole = entropy is not None and entropy.whole
        axes = len(self.codec.signal.shape) - 2
        size = (2, self.planes, *[EXAMPLE] * axes)
        dtype = torch.int32 if whole else torch.float32
        codes = torch.zeros(size, dtype=dtype, device=device)
        return codes, torch.ones(2, device=device)

    def program(self) -> Any:
        """The `torch.export.ExportedProgram`; batch and sizes are free."""
        with torch.no_grad():
            return torch.export.export(
                self, self.example(), dynamic_shapes=self._free(), strict=False
            )

    def onnx(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the network as an ONNX file; inputs ``codes`` and ``level``.

        ModelError where onnx and onnxscript are not installed. A file that is there is
        left alone without ``force``.
        """
        check_target(path, force=force)
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ModelError(
                f"ONNX files are not written here ({error}); expected onnx and "
                "onnxscript; pip install onnx onnxscript"
            ) from error
        with torch.no_grad():
            torch.onnx.export(
                self,
                self.example(),
                os.fspath(path),
                input_names=["codes", "level"],
                output_names=["signals"],
                dynamic_shapes=self._free(),
                dynamo=True,
                external_data=False,
                optimize=False,  # runtimes do it; here it loses what layers share
                verbose=False,
            )
        return Path(path)

    def _free(self) -> dict[str, Any]:
        batch = torch.export.Dim("batch", min=1, max=1 << 10)
        names = "hw" if len(self.codec.signal.shape) == 4 else "n"
        free = (torch.export.Dim(name, min=1, max=1 << 12) for name in names)
        sizes = dict(enumerate(free, 2))
        return {"codes": {0: batch, **sizes}, "level": {0: batch}}
