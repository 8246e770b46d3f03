# SPDX-License-Identifier: Apache-2.0
"""Change the sample rate of a stream; the result never depends on how it was cut.

    y[n] = Σ_k x[k] h(n·R_in/R_out - k)      h(t) = c sinc(c t) kaiser(t / reach)

Sample n of the output stands at the time of n·R_in/R_out of the input: no delay.
Output is made in blocks on a fixed grid, each by the same products of the same
matrix, so that pushing a file whole, in pieces, or from its middle on gives the same
bits. That is what libraries do not offer: soxr streams but cannot start in the
middle; torchaudio wants the whole signal, and for rates without a common divisor
(44101 Hz) a matrix of gigabytes.

Smith, "Digital audio resampling", https://ccrma.stanford.edu/~jos/resample/
"""

from __future__ import annotations

import math

import numpy as np

from polycodec.codecs.files.container.layout import MAX_RATE
from polycodec.errors import InputError

# BITSTREAM, all below: the samples that codes are made of depend on them.
ZEROS = 64  # zero crossings of h on each side
CUTOFF = 0.957  # of the lower Nyquist frequency; 0.92 passes, 1.0 is 90 dB down
BETA = 8.96  # Kaiser window of 90 dB
BLOCK = 8192  # output samples a block, about
MAX_MATRIX = 1 << 22  # values of the matrix of all phases; beyond, taps are looked up
STEPS = 1024  # of the table of h for each zero crossing
PIECE = 1024  # outputs whose taps are looked up at a time


class Resampler:
    """Push samples (n, channels) float32 at ``rate_in``, take them at ``rate_out``.

    ``start``: output sample to begin with; the caller then pushes from the input
    sample ``first_input`` on. An output looks ``reach`` input samples to each side.
    """

    def __init__(self, rate_in: int, rate_out: int, *, start: int = 0) -> None:
        for rate in (rate_in, rate_out):
            if not 1 <= rate <= MAX_RATE:
                raise InputError(
                    f"the sample rate is {rate} Hz; expected 1 to {MAX_RATE}; the "
                    "file's header is damaged"
                )
        common = math.gcd(rate_in, rate_out)
        self.up, self.down = rate_out // common, rate_in // common
        self._same = self.up == self.down
        self._choose_block()
        block = start // self._outputs
        self._made = block * self._outputs  # outputs made, dropped ones included
        self._start = start
        self._lead = block * self._inputs - self.reach  # input the buffer starts at
        self.first_input = max(0, self._lead)
        self._begun, self._buffer = False, np.zeros((0, 1), np.float32)

    def push(self, x: np.ndarray) -> np.ndarray:
        """Take samples (n, channels); return those (m, channels) that are ready."""
        if not self._begun:
            # Before the signal there is silence.
            before = self.first_input - self._lead
            self._begun, self._buffer = True, np.zeros((before, x.shape[1]), "f4")
        if self._same:
            return x
        self._buffer = np.concatenate([self._buffer, x])
        ready = [x[:0]]
        while len(self._buffer) >= self._inputs + 2 * self.reach:
            ready.append(self._block())
        return np.concatenate(ready)

    def flush(self, total: int) -> np.ndarray:
        """Return what is left up to output sample ``total``; silence follows."""
        window, channels = self._inputs + 2 * self.reach, self._buffer.shape[1]
        if self._same:
            return np.zeros((0, channels), np.float32)
        ready = [np.zeros((0, channels), np.float32)]
        while self._made < total:
            missing = max(0, window - len(self._buffer))
            silence = np.zeros((missing, channels), np.float32)
            self._buffer = np.concatenate([self._buffer, silence])
            ready.append(self._block())
        out = np.concatenate(ready)
        return out[: len(out) - max(0, self._made - total)]

    def _choose_block(self) -> None:
        """Fix the grid: a block makes ``_outputs`` samples of ``_inputs``."""
        self.reach, self._inputs, self._outputs = 0, 1, 1
        if self._same:
            return
        scale = CUTOFF * min(1.0, self.up / self.down)
        self.reach = math.ceil(ZEROS / scale)
        group = max(1, 64 // self.up)  # of few phases, several turns share a matrix
        phases, self._step = self.up * group, self.down * group
        self._width = self._step + 2 * self.reach
        if phases * self._width <= MAX_MATRIX:
            rows = max(1, BLOCK // phases)
            taps = np.arange(self._width)[:, None] - self.reach
            matrix = _kernel(taps - np.arange(phases) * self.down / self.up, scale)
            self._matrix: np.ndarray | None = matrix / matrix.sum(0)
        else:
            rows, phases, self._step, self._matrix = 1, self.up, self.down, None
            self._scale = STEPS * scale  # table entries for each input sample
            entries = math.ceil((self.reach + 1) * self._scale) + 2
            self._table = _kernel(np.arange(entries) / self._scale, scale)
        self._inputs, self._outputs = rows * self._step, rows * phases

    def _block(self) -> np.ndarray:
        """Make the next block (m, channels); the buffer moves on by its input."""
        window = self._buffer[: self._inputs + 2 * self.reach]
        self._buffer = self._buffer[self._inputs :]
        if self._matrix is None:
            out = self._looked_up(window)
        else:
            rows = np.lib.stride_tricks.sliding_window_view(window, self._width, 0)
            out = rows[:: self._step] @ self._matrix  # (rows, channels, phases)
            out = out.transpose(0, 2, 1).reshape(-1, window.shape[1])
        begin = max(0, self._start - self._made)
        self._made += self._outputs
        return out[begin:].astype(np.float32)

    def _looked_up(self, window: np.ndarray) -> np.ndarray:
        """A block by taps from the table, a piece of the outputs at a time."""
        out = np.empty((self._outputs, window.shape[1]))
        near = np.arange(-self.reach, self.reach + 1)
        for first in range(0, self._outputs, PIECE):
            n = np.arange(first, min(first + PIECE, self._outputs))
            base, rest = np.divmod(n * self.down, self.up)
            at = np.abs(near - (rest / self.up)[:, None]) * self._scale
            k = at.astype(np.int32)
            low = self._table[k]
            taps = low + (at - k) * (self._table[k + 1] - low)
            taps /= taps.sum(1, keepdims=True)
            reached = window[base[:, None] + near + self.reach]
            out[n] = np.einsum("nk,nkc->nc", taps, reached)
        return out


def _kernel(t: np.ndarray, scale: float) -> np.ndarray:
    """h at offsets ``t`` in input samples, not yet normalised."""
    inside = np.clip(1 - (t * scale / ZEROS) ** 2, 0, None)
    window = np.i0(BETA * np.sqrt(inside)) / np.i0(BETA)
    return np.where(inside > 0, np.sinc(scale * t) * window, 0.0)
