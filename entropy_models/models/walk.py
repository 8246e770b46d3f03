# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model one frame at a time, in NumPy on the host.

    begin()     φ of the next frame, from the last K frames
    place(g)    whole parts of the means and tables of group g
    take(g, n)  its integers, now decoded

Two hundred tiny steps a second of sound: calls into torch would cost several times
what they compute. Weights and inputs are the exact layers' own, on dyadic grids, in
float64; sums are exact in any order, so the results are those of `exact/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor, nn

from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.priors.shifted import MEAN_LIMIT, PLACES, SCALES
from polycodec.errors import ModelError

if TYPE_CHECKING:
    from polycodec.entropy_models.models.autoregressive import (
        AutoregressiveModel,
        Scales,
    )

HALF = np.float32(0.5)


class Layer:
    """A frozen 1x1 layer on rows: (B, I) float32 -> (B, O) float32."""

    def __init__(self, layer: ExactConv2d) -> None:
        if not layer.frozen:
            raise ModelError("an exact layer is not frozen; export the run first")
        layer.carrier(layer.weight.device)  # refuses what float64 cannot hold
        weight = layer.weight.detach().flatten(1).double().cpu().numpy()
        self.weight = np.ascontiguousarray(weight.T)
        self.bias = layer.bias.detach().double().cpu().numpy()
        self.step = layer.input_step.detach().cpu().numpy()
        self.inverse = 1 / self.step  # powers of two
        self.top = np.float32(2 ** (layer.input_bits - 1) - 1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        grid = np.floor(x * self.inverse + HALF)
        np.clip(grid, -self.top, self.top, out=grid)
        grid *= self.step
        return (grid.astype(np.float64) @ self.weight + self.bias).astype(np.float32)


class Walk:
    """State of B sequences that are decoded side by side."""

    def __init__(self, model: AutoregressiveModel, scales: Scales) -> None:
        def host(x: Tensor) -> np.ndarray:
            return x.detach().float().cpu().numpy()

        self.parts = model.parts
        self.past, self.trunk = Layer(model.past), Layer(model.trunk)
        self.join, self.out = _layers(model.join), _layers(model.out)
        self.gain, self.inverse = host(scales.gain), host(scales.inverse)
        self.level_index = host(model.level_index[scales.level])
        batch, channels = self.gain.shape
        known = channels * model.frames
        # Past frames, oldest first, and which rate it is.
        self.inputs = np.zeros((batch, known + model.levels), np.float32)
        self.inputs[np.arange(batch), known + scales.level.cpu().numpy()] = 1
        self.past_frames = self.inputs[:, :known]
        self.channels = channels
        self.phi = np.zeros((batch, 0), np.float32)
        self.now = np.zeros((batch, channels), np.float32)

    def begin(self) -> None:
        """Go on to the next frame."""
        h = np.maximum(self.past(self.inputs), 0)
        self.phi = np.maximum(self.trunk(h), 0)

    def place(self, g: int) -> tuple[np.ndarray, np.ndarray]:
        """Whole parts (B, C) float32 and tables (B, C) uint8 of group g."""
        part = self.parts[g]
        known = self.now[:, : part.start]
        h = np.maximum(self.join[g](np.concatenate([self.phi, known], axis=1)), 0)
        mean, index = np.split(self.out[g](h), 2, axis=1)
        mean, index = mean * self.gain[:, part], index + self.level_index[:, part]
        mean = np.clip(mean, -np.float32(MEAN_LIMIT), np.float32(MEAN_LIMIT))
        eighths = np.floor(mean * np.float32(PLACES) + HALF)
        whole = np.floor((eighths + PLACES // 2) / np.float32(PLACES))
        scale = np.clip(np.floor(index + HALF), 0, SCALES - 1)
        table = PLACES * scale + (eighths - PLACES * whole) + PLACES // 2
        return whole, table.astype(np.uint8)

    def take(self, g: int, values: np.ndarray) -> None:
        """Remember integers (B, C) of group g; after the last one the frame is past."""
        part = self.parts[g]
        self.now[:, part] = values * self.inverse[:, part]
        if g == len(self.parts) - 1:
            past = self.past_frames
            past[:, : -self.channels] = past[:, self.channels :].copy()
            past[:, -self.channels :] = self.now


def _layers(group: nn.ModuleList) -> list[Layer]:
    return [Layer(layer) for layer in cast("Iterable[ExactConv2d]", group)]
