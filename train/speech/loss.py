# SPDX-License-Identifier: Apache-2.0
"""What training on speech minimises, of x and x̂ (B, 1, T), at several resolutions.

    mel          mean over windows of |log₁₀(M + ε) - log₁₀(M̂ + ε)|, M mel magnitudes
    mel_linear   the same of M itself, by the mean of M
    spectrum     |C - Ĉ| of compressed spectra C = X |X|^-0.7: phase counts, and soft
                 parts count beside loud ones
    wave         mean |x - x̂| / mean |x|, every item alike
    loudness     what the error sounds like beside the signal (`loudness.py`)

Each term comes alone, unweighted, so that the balancer can make weights mean shares of
the gradient, not of the loss (Défossez et al. 2022, arXiv 2210.13438):

    g_l = ∂l/∂x̂,   n_l = running mean of the items' mean |g_l|
    ∂/∂x̂  =  Σ_l  w_l / Σ w  ·  g_l / n_l

Terms of an adversary change their size by orders of magnitude while it learns; their
share of what the decoder hears then stays.
Windows begin at a random sample of their hop, another one in each step: two windows
over each sample then see what four would, at half the cost.
Everything is float32: magnitudes span five decades.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from polycodec.errors import UsageError
from polycodec.train.sections import LossSection
from polycodec.train.speech.loudness import WINDOW, Disturbance
from polycodec.train.speech.spectra import magnitude, mel_filters, spectrum

FLOOR = 1e-4  # ε: -80 dB of full scale
POWER = 0.3
SOFT = 1e-3  # compression is linear below: near 0 its slope has no bound
QUIET = 1e-2  # of the mean magnitude: silence asks for no more than this


class SpeechLoss(nn.Module):
    """Terms by name; those whose weight in ``section`` is 0 are not computed."""

    def __init__(self, section: LossSection, rate: int) -> None:
        super().__init__()
        if len(section.windows) != len(section.mels):
            raise UsageError(
                f"loss.windows has {len(section.windows)} entries, loss.mels "
                f"{len(section.mels)}; expected one number of bands a window"
            )
        if not set(section.spectrum_windows) <= set(section.windows):
            raise UsageError(
                f"loss.spectrum_windows is {section.spectrum_windows}; expected some "
                f"of loss.windows, {section.windows}"
            )
        odd = [n for n in section.windows if n < 32 or n % 4]
        if odd:
            raise UsageError(
                f"loss.windows has {odd}; expected multiples of 4 from 32 samples on"
            )
        names = ("mel", "mel_linear", "spectrum", "wave", "loudness")
        self.weights = {n: w for n in names if (w := getattr(section, n)) > 0}
        self.disturbance = Disturbance(rate) if "loudness" in self.weights else None
        self.windows: Sequence[int] = section.windows
        self.overlap = section.overlap
        self.compressed = frozenset(section.spectrum_windows)
        for size, bands in zip(section.windows, section.mels, strict=True):
            filters = mel_filters(bands, size, rate)
            self.register_buffer(f"filters_{size}", filters, persistent=False)

    def forward(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Unweighted scalar terms of x̂ and x (B, 1, T) float32."""
        with torch.autocast(x.device.type, enabled=False):
            x_hat, x = x_hat.float().squeeze(1), x.float().squeeze(1)
            terms = {name: x.new_zeros(()) for name in self.weights}
            for size in self.windows:
                for name, value in self._resolution(x_hat, x, size).items():
                    terms[name] = terms[name] + value
            if "wave" in terms:
                level = x.abs().mean(1).clamp_min(QUIET)
                terms["wave"] = ((x - x_hat).abs().mean(1) / level).mean()
            if self.disturbance is not None:
                terms["loudness"] = self.disturbance(x_hat, x, self._shift(WINDOW))
        return terms

    def _resolution(self, x_hat: Tensor, x: Tensor, size: int) -> dict[str, Tensor]:
        compress = size in self.compressed and "spectrum" in self.weights
        shift = self._shift(size)
        with torch.no_grad():
            mel, c = self._views(x, size, shift, compress)
        mel_hat, c_hat = self._views(x_hat, size, shift, compress)
        count = len(self.windows)
        values = {}
        if "mel" in self.weights:
            logs = [(m + FLOOR).log10() for m in (mel, mel_hat)]
            values["mel"] = (logs[0] - logs[1]).abs().mean() / count
        if "mel_linear" in self.weights:
            error = (mel - mel_hat).abs().mean()
            values["mel_linear"] = error / mel.mean().clamp_min(FLOOR) / count
        if compress:
            both = zip(c, c_hat, strict=True)
            real, imag = ((a - b).abs().mean() for a, b in both)
            values["spectrum"] = (real + imag) / 2 / len(self.compressed)
        return values

    def _shift(self, size: int) -> int:
        """Where windows begin in this step."""
        return int(torch.randint(size // self.overlap, ())) if self.training else 0

    def _views(
        self, x: Tensor, size: int, shift: int, compress: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mel magnitudes, and the compressed spectrum as two planes."""
        planes = spectrum(x, size, self.overlap, shift)
        magnitudes = magnitude(planes, FLOOR)
        mel = magnitudes @ getattr(self, f"filters_{size}")
        if not compress:
            return mel, ()
        scale = (magnitudes + SOFT) ** (POWER - 1)
        return mel, tuple(plane * scale for plane in planes)


class Balancer:
    """Combine the gradients of terms that depend on the decoder's output alone.

    ``reduce`` averages a tensor over processes.
    """

    def __init__(
        self, *, decay: float = 0.999, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.decay, self.reduce = decay, reduce or (lambda value: value)
        self.sums: dict[str, float] = {}  # decayed sums of norms, and of ones
        self.counts: dict[str, float] = {}

    def gradient(
        self, terms: dict[str, Tensor], weights: dict[str, float], x_hat: Tensor
    ) -> Tensor:
        """∂/∂x̂ of the balanced terms; ``x_hat`` (B, 1, T) is what they came from."""
        total = torch.zeros_like(x_hat)
        shares = sum(weights[name] for name in terms)
        for name, value in terms.items():
            (grad,) = torch.autograd.grad(value, [x_hat], retain_graph=True)
            norm = self._mean_norm(name, grad)
            if norm > 0:
                total.add_(grad, alpha=weights[name] / shares / norm)
        return total

    def _mean_norm(self, name: str, grad: Tensor) -> float:
        norm = float(self.reduce(grad.flatten(1).norm(dim=1).mean()))
        self.sums[name] = self.decay * self.sums.get(name, 0.0) + norm
        self.counts[name] = self.decay * self.counts.get(name, 0.0) + 1
        return self.sums[name] / self.counts[name]

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint keeps."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state(self, state: dict[str, dict[str, float]]) -> None:
        """Restore `state`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
