# SPDX-License-Identifier: Apache-2.0
"""The default for tokens: integers that learned on training speech, and go on learning.

    x = E[last J columns]                                (J L D)   |x| <= 127
    h = clip(⌊(W1 x + b1) / 2^s1⌋, 0, 255)
    g = clip(⌊(W2 h + b2) / 2^s2⌋, -127, 127)            (L D)

E and W are int8, so that float32 carries the sums exactly in any order (float64 where
networks are wide). walk.py goes on from g and says what adapts. Speech files are
short, a few hundred frames: the warm start brings most of the gain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from polycodec.entropy_models.tokens.learned import LearnedTokens, shift_for, unit_of
from polycodec.entropy_models.tokens.network import Perceptron
from polycodec.entropy_models.tokens.walk import G_TOP
from polycodec.errors import ModelError
from polycodec.registry import register

X_TOP, H_TOP, BIAS_TOP = 127, 255, 1 << 22
SHIFTS = ("up_shift", "down_shift")
BIASES = ("up_bias", "down_bias")


@register("entropy/tokens-adaptive")
class AdaptiveTokens(LearnedTokens[Perceptron]):
    """``sizes``: tokens of each level; ``width``: numbers that stand for a token;
    ``columns``: how far back it looks; ``hidden``: width of the network."""

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        width: int = 16,
        columns: int = 4,
        hidden: int = 256,
    ) -> None:
        super().__init__(sizes, width)
        self.options = {"width": width, "columns": columns, "hidden": hidden}
        levels, dtypes = len(self.sizes), {"bias": torch.int32}
        shapes = {
            "embed": (levels, max(self.sizes) + 1, width),
            "up": (hidden, columns * levels * width),
            "up_bias": (hidden,),
            "up_shift": (hidden,),
            "down": (levels * width, hidden),
            "down_bias": (levels * width,),
            "down_shift": (levels * width,),
        }
        for name, shape in shapes.items():
            dtype = dtypes.get(name.split("_")[-1], torch.int8)
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))

    def _trunk(self) -> Perceptron:
        return Perceptron(self.sizes, **self.options)

    def _context(self, batch: int) -> PerceptronContext:
        return PerceptronContext(self, batch)

    def _freeze(self, trunk: Perceptron, typical: torch.Tensor) -> np.ndarray:
        hidden = F.relu(trunk.up(trunk.context(typical))).flatten(0, 1)
        unit_h = unit_of(hidden, H_TOP)
        unit_g = unit_of(trunk.down(hidden), G_TOP)
        embed = trunk.embed.double().numpy()
        unit_x = np.abs(embed).max(axis=1) / X_TOP + 1e-12  # (L, D)
        self._keep_integers("embed", np.rint(embed / unit_x[:, None]))
        per_input = np.tile(unit_x.reshape(-1), trunk.lead)
        self._keep_layer("up", trunk.up, per_input, unit_h)
        self._keep_layer("down", trunk.down, unit_h, unit_g)
        return unit_g

    def _keep_layer(
        self,
        name: str,
        layer: torch.nn.Linear,
        unit_in: np.ndarray,
        unit_out: np.ndarray,
    ) -> None:
        """Rows as int8, each with its shift; half a unit is in the bias, to round."""
        weight = layer.weight.double().numpy() * unit_in / unit_out[:, None]
        bias = layer.bias.double().numpy() / unit_out
        shift = shift_for(np.abs(weight).max(axis=1))
        # Beside a row that is nearly zero, the bias alone must fit.
        room = np.floor(np.log2(BIAS_TOP / (np.abs(bias) + 1)))
        grid = 2.0 ** np.minimum(shift, room)
        self._keep_integers(name, np.rint(weight * grid[:, None]))
        self._keep_integers(f"{name}_bias", np.floor((bias + 0.5) * grid))
        self._keep_integers(f"{name}_shift", np.log2(grid))

    def _keep_integers(self, name: str, values: np.ndarray) -> None:
        buffer = getattr(self, name)
        buffer.copy_(torch.from_numpy(values).to(buffer.dtype))


class PerceptronContext:
    """The last columns' embeddings of B sequences. See `Context`."""

    def __init__(self, model: AdaptiveTokens, batch: int) -> None:
        arrays = {name: value.cpu().numpy() for name, value in model.named_buffers()}
        bias, shift = (
            max(int(np.abs(arrays[n].astype(np.int64)).max()) for n in names)
            for names in (BIASES, SHIFTS)
        )
        if bias > BIAS_TOP or shift > 32:
            raise ModelError(
                "the integers of the token model leave their range; the weights file "
                "is damaged: get it again"
            )
        bounds = (arrays["up"].shape[1] * X_TOP, arrays["down"].shape[1] * H_TOP)
        narrow = max(bounds) * 128 + BIAS_TOP <= 1 << 24
        self.dtype = np.float32 if narrow else np.float64
        carried = {name: value.astype(self.dtype) for name, value in arrays.items()}
        self.embed = carried["embed"]
        self.up = np.ascontiguousarray(carried["up"].T)
        self.down = np.ascontiguousarray(carried["down"].T)
        self.biases = tuple(carried[name] for name in BIASES)
        shifts = [-arrays[name].astype(np.int32) for name in SHIFTS]
        self.scales = tuple(np.ldexp(self.dtype(1), shift) for shift in shifts)
        levels, _, width = self.embed.shape
        self.level, self.shape = np.arange(levels), (batch, levels, width)
        empty = self.embed[:, -1].reshape(-1)
        self.recent = np.tile(empty, (batch, len(self.up) // empty.size))

    def next(self) -> np.ndarray:
        """g of the next column, (B, L, D)."""
        a = (self.recent @ self.up + self.biases[0]) * self.scales[0]
        h = np.clip(np.floor(a), 0, H_TOP)
        a = (h @ self.down + self.biases[1]) * self.scales[1]
        return np.clip(np.floor(a), -G_TOP, G_TOP).reshape(self.shape).astype(np.int64)

    def push(self, column: np.ndarray) -> None:
        """Shift the columns by one; the newest stands first."""
        size = self.shape[1] * self.shape[2]
        self.recent[:, size:] = self.recent[:, :-size].copy()
        newest = self.embed[self.level, column]
        self.recent[:, :size] = newest.reshape(len(column), -1)
