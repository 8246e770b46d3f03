# SPDX-License-Identifier: Apache-2.0
"""A small causal transformer whose output is the same bits on every machine.

    column ─► Σ_l E_l[code] ─► (attention, two layers with ReLU) x N ─► g

    w_j = 2^(q·k_j + b[i - j])  over the last W columns        out = Σ w_j v_j / Σ w_j

Matrices are exact layers (exact.py). Between them, q, k, v and b are whole multiples of
powers of two, so the scores are exact; a score's distance from the largest becomes an
integer weight by a table, the sums are whole numbers below 2^53, and one division is
correctly rounded everywhere. There is no normalisation of x: layers snap their inputs.
Whether columns come all at once or one by one makes no difference, to the bit.

Vaswani et al. 2017 (arXiv 1706.03762); positions as biases of the scores: Raffel et al.
2020 (arXiv 1910.10683).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.tokens.network import Trunk
from polycodec.entropy_models.tokens.walk import power_table

SCORE_UNIT = 32  # BITSTREAM: a score's distance from the largest counts in 1/32 bit
QK_STEP, QK_TOP = 2.0**-5, 127  # BITSTREAM
V_STEP, V_TOP = 2.0**-7, 2047  # BITSTREAM
BIAS_STEP, BIAS_TOP = 2.0**-10, 2**14  # BITSTREAM
EMBED_STEP, EMBED_TOP = 2.0**-8, 2047  # BITSTREAM: float16 holds them exactly


def on_grid(x: Tensor, step: float, top: int) -> Tensor:
    """Nearest multiples of the power of two ``step``, at most ``top`` of them."""
    return torch.floor(x * (1 / step) + 0.5).clamp(-top, top) * step


class Attention(nn.Module):
    """Heads of attention over the last ``window`` columns; x is (B, C, 1, S)."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = ExactConv2d(channels, 3 * channels)
        self.mix = ExactConv2d(channels, channels)
        # From heads for the newest column to heads that look at all alike.
        slope = 4.0 * 0.25 ** torch.arange(heads)
        self.bias = nn.Parameter(-slope[:, None] * torch.arange(window))

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None = None):
        """Returns (B, C, 1, S) and the keys and values to go on from."""
        b, c, _, s = x.shape
        qkv = self.qkv(x).view(b, 3, self.heads, c // self.heads, s).mT
        q, k, v = (part.contiguous() for part in qkv.unbind(1))  # (B, h, S, c / h)
        q = q * 2.0 ** -round(math.log2(c // self.heads) / 2)
        if self.qkv.frozen:
            q, k = (on_grid(part, QK_STEP, QK_TOP) for part in (q, k))
            v = on_grid(v, V_STEP, V_TOP)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        out = self._attend(q, k, v).mT.reshape(b, c, 1, s)
        return self.mix(out), (k[:, :, 1 - self.window :], v[:, :, 1 - self.window :])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        newest, oldest = torch.arange(k.shape[2] - q.shape[2], k.shape[2]), k.shape[2]
        distance = newest[:, None] - torch.arange(oldest)
        hidden = (distance < 0) | (distance >= self.window)
        bias = self.bias[:, distance.clamp(0, self.window - 1)]
        if not self.qkv.frozen:
            score = (q @ k.mT + bias).masked_fill(hidden, -math.inf)
            return torch.softmax(score * math.log(2), dim=-1) @ v
        score = q.double() @ k.mT.double() + bias.double()
        score = score.masked_fill(hidden, -math.inf)
        below = score.amax(dim=-1, keepdim=True) - score
        powers = torch.from_numpy(power_table()).double()
        index = torch.floor(below * SCORE_UNIT).clamp_max(len(powers) - 1)
        weight = powers[index.long()].masked_fill(hidden, 0.0)
        total = weight.sum(dim=-1, keepdim=True)  # at least 2^18: the largest score's
        return ((weight @ v.double()) / total).float()


class Layer(nn.Module):
    """Attention, then two exact layers with ReLU between; both are added to x."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.attention = Attention(channels, heads, window)
        self.up = ExactConv2d(channels, 2 * channels)
        self.down = ExactConv2d(2 * channels, channels)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None = None):
        """Returns x' and what to go on from."""
        out, past = self.attention(x, past)
        x = x + out
        return x + self.down(torch.relu(self.up(x))), past


class Transformer(Trunk):
    """Columns (B, L, 1 + S) to g (B, S, L D): see `Trunk`."""

    lead = 1

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        width: int,
        channels: int,
        layers: int,
        heads: int,
        window: int,
    ) -> None:
        super().__init__()
        shape = (len(sizes), max(sizes) + 1, channels)
        self.embed = nn.Parameter(0.3 * torch.randn(shape))
        self.layers = nn.ModuleList(
            Layer(channels, heads, window) for _ in range(layers)
        )
        self.head = ExactConv2d(channels, len(sizes) * width)

    def forward(self, columns: Tensor) -> Tensor:
        return self.go_on(columns[..., :-1], [None] * len(self.layers))[0]

    def go_on(self, columns: Tensor, past: list) -> tuple[Tensor, list]:
        """g (B, S, L D) after each of columns (B, L, S), and what to go on from."""
        x = sum(self.embed[i][plane] for i, plane in enumerate(columns.unbind(1)))
        x, ahead = x.mT.unsqueeze(2), []
        for layer, before in zip(self.layers, past, strict=True):
            x, after = layer(x, before)
            ahead.append(after)
        return self.head(x).squeeze(2).mT, ahead

    @torch.no_grad()
    def snap(self) -> None:
        """Put on their grids what no exact layer holds."""
        self.embed.copy_(on_grid(self.embed, EMBED_STEP, EMBED_TOP))
        for layer in self.layers:
            bias = layer.attention.bias
            bias.copy_(on_grid(bias, BIAS_STEP, BIAS_TOP))
