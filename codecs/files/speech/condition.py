# SPDX-License-Identifier: Apache-2.0
"""What networks never met in training, taken out before them and put back after them.

    x ─ offset, tones out ─ high-pass ─ gain ─► network ─► 1/gain ─ tones, offset in ─ x̂

A constant offset, the hum of mains, rumble and a far too low or high level cost a codec
for speech up to half of its quality. A first pass over the file measures them; a file
that has none of them is coded as it is. What was taken out is a record of a few bytes,
exact but for rumble, which a note names. The same pass sees channels that cancel one
another when they are mixed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from polycodec.codecs.files.speech.resample import Resampler
from polycodec.errors import BitstreamError

_BLOCK = 0.05  # seconds over which energies are taken
_MOST_BLOCKS = 1 << 15  # then two become one
_LOW_RATE = 1000  # Hz, about, at which hum is looked for
_LOW_SECONDS = 600  # from the start
_MAINS, _HARMONICS, _TONES = (50.0, 60.0), 8, 8
_LOUD, _QUIET, _NOMINAL = -16.0, -38.0, -26.0  # dB of full scale while there is sound
_OFFSET, _TONE = 0.002, 0.001  # least that is taken out
_RUMBLE = 0.1  # of the sound's amplitude below 73 Hz, from which on it is cut off
_LOW_PASS = 160  # Hz, rate whose band is cut off
_HEAD, _CHANNEL, _SINE = (
    struct.Struct("<bB"),
    struct.Struct("<hB"),
    struct.Struct("<fHH"),
)


@dataclass(frozen=True)
class Tone:
    """a cos(2π f t + φ): f in Hz, φ in turns."""

    frequency: float
    amplitude: float
    phase: float

    def at(self, start: int, count: int, rate: int) -> np.ndarray:
        """Samples [start, start + count) at ``rate``."""
        turns = self.frequency / rate * np.arange(start, start + count) + self.phase
        return self.amplitude * np.cos(2 * np.pi * turns)


@dataclass(frozen=True)
class Condition:
    """Offset and tones of each coded channel, the gain in half dB, the high-pass."""

    offsets: tuple[float, ...] = ()
    tones: tuple[tuple[Tone, ...], ...] = ()
    half_decibels: int = 0
    high_pass: bool = False

    @property
    def gain(self) -> float:
        """What samples are multiplied by before they are coded."""
        return 10 ** (self.half_decibels / 40)

    @property
    def lossless(self) -> bool:
        """Whether there is anything that can be put back."""
        return any(self.offsets) or any(self.tones) or bool(self.half_decibels)

    def __bool__(self) -> bool:
        return self.lossless or self.high_pass

    def pack(self) -> bytes:
        """The record.  # BITSTREAM"""
        out = bytearray(_HEAD.pack(self.half_decibels, self.high_pass))
        for offset, tones in zip(self.offsets, self.tones, strict=True):
            out += _CHANNEL.pack(round(offset * 32767), len(tones))
            for tone in tones:
                level, turn = (
                    round(tone.amplitude * 65535),
                    round(tone.phase % 1 * 65536),
                )
                out += _SINE.pack(tone.frequency, level, turn % 65536)
        return bytes(out)

    @classmethod
    def unpack(cls, data: bytes, channels: int) -> Condition:
        """What `pack` wrote; BitstreamError for anything else."""
        offsets, tones = [], []
        try:
            gain, high_pass = _HEAD.unpack_from(data)
            at = _HEAD.size
            for _ in range(channels):
                offset, count = _CHANNEL.unpack_from(data, at)
                at += _CHANNEL.size
                offsets.append(offset / 32767)
                found = [
                    _SINE.unpack_from(data, at + k * _SINE.size) for k in range(count)
                ]
                tones.append(tuple(Tone(f, a / 65535, p / 65536) for f, a, p in found))
                at += count * _SINE.size
        except struct.error as error:
            raise BitstreamError(
                f"the condition record is too short; {error}"
            ) from error
        finite = all(np.isfinite(t.frequency) for row in tones for t in row)
        if at != len(data) or not finite or max(map(len, tones)) > _TONES:
            raise BitstreamError("the condition record is not what it should be")
        return cls(tuple(offsets), tuple(tones), gain, bool(high_pass))

    def stationary(self, start: int, count: int, rate: int) -> np.ndarray:
        """Offsets and tones of all channels, (count, channels)."""
        out = np.tile(np.array(self.offsets), (count, 1))
        for c, tones in enumerate(self.tones):
            for tone in tones:
                out[:, c] += tone.at(start, count, rate)
        return out

    def removed(self, blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        """Blocks (n, channels) at ``rate`` as networks want them, as many samples."""
        at = 0
        filtered = HighPass(rate) if self.high_pass else None
        for x in blocks:
            y = (x - self.stationary(at, len(x), rate)) * self.gain
            at += len(x)
            y = y.astype(np.float32)
            yield filtered.push(y) if filtered else y
        if filtered:
            yield filtered.flush()

    def restored(
        self, blocks: Iterable[np.ndarray], start: int, rate: int
    ) -> Iterator[np.ndarray]:
        """The reverse, of blocks from sample ``start`` on; without what was cut off.

        Exact zeros stand for what was damaged, and stay silent.
        """
        for x in blocks:
            added = self.stationary(start, len(x), rate)
            y = np.where(x == 0, 0, x / self.gain + added)
            start += len(x)
            yield np.clip(y, -1, 1).astype(np.float32)


class HighPass:
    """Cut off what is below 73 Hz, 90 dB at 70: a signal without its low band."""

    def __init__(self, rate: int) -> None:
        self.rate, self._count = rate, 0
        self._down, self._up = Resampler(rate, _LOW_PASS), Resampler(_LOW_PASS, rate)
        self._held: list[np.ndarray] = []
        self._low: list[np.ndarray] = []

    def push(self, x: np.ndarray) -> np.ndarray:
        """Take (n, channels); return those (m, channels) that are ready."""
        self._count += len(x)
        self._held.append(x)
        self._low.append(self._up.push(self._down.push(x)))
        return self._ready()

    def flush(self) -> np.ndarray:
        """Return what is left."""
        low = self._down.flush(-(-self._count * _LOW_PASS // self.rate))
        self._low += [self._up.push(low), self._up.flush(self._count)]
        return self._ready()

    def _ready(self) -> np.ndarray:
        held, low = np.concatenate(self._held), np.concatenate(self._low)
        count = min(len(held), len(low))
        self._held, self._low = [held[count:]], [low[count:]]
        return held[:count] - low[:count]


@dataclass
class Survey:
    """A first pass over samples: energies in time, and their low band."""

    rate: int
    channels: int
    samples: int = 0  # of each channel, so far
    _energies: list[np.ndarray] = field(default_factory=list)  # channels, then the mean
    _low: list[np.ndarray] = field(default_factory=list)
    _rest: np.ndarray | None = None
    _sum: np.ndarray | float = 0.0
    _merge: int = 1

    def push(self, x: np.ndarray) -> None:
        """Take (n, channels)."""
        self._sum = self._sum + x.sum(0, dtype=np.float64)
        self.samples += len(x)
        if self._rest is not None:
            x = np.concatenate([self._rest, x])
        step = max(1, self.rate // _LOW_RATE)
        size = max(step, int(_BLOCK * self.rate) // step * step)
        whole = len(x) // size * size
        x, self._rest = x[:whole], x[whole:]
        if not whole:
            return
        if sum(map(len, self._low)) * step < _LOW_SECONDS * self.rate:
            self._low.append(x.reshape(-1, step, self.channels).mean(1))
        every = np.concatenate([x, x.mean(1, keepdims=True)], 1)
        parts = every.reshape(-1, size, self.channels + 1)
        self._energies += list(parts.var(1, dtype=np.float64))
        if len(self._energies) > _MOST_BLOCKS:
            pairs = zip(self._energies[::2], self._energies[1::2], strict=False)
            self._energies = [(a + b) / 2 for a, b in pairs]

    def mixing(self) -> tuple[np.ndarray, list[str]]:
        """How much of each channel one coded channel is made of, and notes."""
        count = self.channels
        even = np.full(count, 1 / count)
        if count == 1 or not self._energies:
            return even, []
        energies = np.stack(self._energies)
        each, mixed = energies[:, :-1], energies[:, -1]
        total = each.sum(0)
        loudest = int(total.argmax())
        alone = np.eye(count)[loudest]
        name = f"channel {loudest + 1} of {count}"
        if total.sum() - total[loudest] <= 1e-3 * total[loudest]:
            return alone, [f"{name} is coded; the others are silent"]
        each = _in_tens(each)
        active = each.sum(1) > 0.01 * each.sum(1).mean()
        # Mixed, channels that have nothing in common have a count-th of their mean.
        cancels = active & (_in_tens(mixed) < each.sum(1) / count**2 / 8)
        if cancels.sum() > 0.05 * active.sum():
            return alone, [
                f"{name} is coded: mixed, the channels cancel one another in "
                f"{100 * cancels.sum() / active.sum():.0f} % of the sound; --channels "
                "keep codes each"
            ]
        notes = [f"{count} channels are mixed into one; --channels keep codes each"]
        loss = 10 * np.log10(mixed.sum() / total[loudest] + 1e-12)
        if loss < -5:
            notes.append(f"mixing makes the loudest channel {-loss:.0f} dB quieter")
        return even, notes

    def condition(self, mixing: np.ndarray) -> tuple[Condition, list[str]]:
        """What to take out of the channels x @ mixing (channels, coded), and notes."""
        coded = mixing.shape[1]
        if not self.samples or not self._energies:
            return Condition(), []
        offsets = np.asarray(self._sum) / self.samples @ mixing
        low = np.concatenate(self._low) @ mixing - offsets
        tones = [self._tones(low[:, c]) for c in range(coded)]
        step = max(1, self.rate // _LOW_RATE)
        for c, found in enumerate(tones):
            for tone in found:
                low[:, c] -= _seen(tone, len(low), step, self.rate)
        kept = tuple(float(o) if abs(o) > _OFFSET else 0.0 for o in offsets)
        power = max(map(self._power, mixing.T))
        humming = max(sum(t.amplitude**2 / 2 for t in found) for found in tones)
        level = 10 * np.log10(max(power - humming, 1e-12))
        gain = 0.0
        if level > -90 and not _QUIET <= level <= _LOUD:
            gain = float(np.clip(_NOMINAL - level, -60, 60))
        rumble = max(_band(low[:, c], self.rate / step) for c in range(coded))
        high_pass = bool(rumble > max(_TONE, _RUMBLE * 10 ** (level / 20)))
        found_tones = tuple(tuple(found) for found in tones)
        condition = Condition(kept, found_tones, round(2 * gain), high_pass)
        if not high_pass:
            return condition, []
        level = 20 * np.log10(rumble)
        return condition, [f"sound below 73 Hz ({level:.0f} dB) is left out"]

    def _power(self, weights: np.ndarray) -> float:
        """Mean power while there is sound, of one channel or of their mean."""
        whole = np.count_nonzero(weights) > 1
        energies = np.stack(self._energies)[:, -1 if whole else int(weights.argmax())]
        loud = energies[energies >= energies.max() / 1000]
        return float(loud.mean())

    def _tones(self, low: np.ndarray) -> list[Tone]:
        """Steady sines near the frequencies of mains, the loudest first."""
        step = max(1, self.rate // _LOW_RATE)
        rate, count = self.rate / step, len(low)
        if count < rate:
            return []
        found: list[Tone] = []
        power = np.abs(np.fft.rfft(low * np.hanning(count), 2 * count)) ** 2
        for mains in _MAINS:
            before = len(found)
            for k in range(1, _HARMONICS + 1):
                if k > 2 and len(found) == before:
                    break  # harmonics of nothing: a voice
                tone = _sine_near(low, power, k * mains, rate)
                if tone is None or tone.amplitude < _TONE:
                    continue
                # The mean over a step makes a sine quieter, and half a step later.
                turns = tone.frequency / self.rate
                damped = np.sinc(turns * step) / np.sinc(turns)
                phase = float(tone.phase - turns * (step - 1) / 2)
                amplitude = float(min(1.0, tone.amplitude / damped))
                found.append(Tone(tone.frequency, amplitude, phase))
        return sorted(found, key=lambda t: -t.amplitude)[:_TONES]


def _in_tens(energies: np.ndarray) -> np.ndarray:
    """Sums of ten blocks: shorter ones cancel by chance."""
    return np.add.reduceat(energies, np.arange(0, len(energies), 10), axis=0)


def _seen(tone: Tone, count: int, step: int, rate: int) -> np.ndarray:
    """A tone as means over ``step`` samples show it."""
    return tone.at(0, count * step, rate).reshape(count, step).mean(1)


def _sine_near(
    x: np.ndarray, power: np.ndarray, frequency: float, rate: float
) -> Tone | None:
    """The steady sine within 1 % of a frequency, by least squares; None: there is none.

    power: of the spectrum of x under Hann's window, twice as fine as x is long. It must
    stand 15 dB above what is around, and be much the same in all quarters of x.
    """
    bins = np.arange(len(power)) * rate / (2 * len(x))
    near = np.flatnonzero(np.abs(bins - frequency) < 0.01 * frequency)
    if not len(near) or near[-1] + 1 >= len(power):
        return None
    peak = int(near[power[near].argmax()])
    if power[peak] < 30 * np.median(power[np.abs(bins - frequency) < 8]) + 1e-20:
        return None
    a, b, c = np.log(power[peak - 1 : peak + 2] + 1e-30)
    exact = bins[peak] + (a - c) / (2 * (a - 2 * b + c) or 1) * bins[1]
    exact = float(np.float32(exact))
    turns = np.exp(-2j * np.pi * exact / rate * np.arange(len(x)))
    parts = [
        (y * w) @ t * 2 / w.sum()
        for y, t in zip(np.array_split(x, 4), np.array_split(turns, 4), strict=True)
        for w in (np.hanning(len(y)),)
    ]
    mean = np.mean(parts)
    if np.abs(parts - mean).max() > 0.5 * abs(mean):
        return None
    return Tone(exact, float(abs(mean)), float(np.angle(mean) / (2 * np.pi)))


def _band(x: np.ndarray, rate: float) -> float:
    """Amplitude (rms) of what is between 2 and 70 Hz."""
    if len(x) < 2:
        return 0.0
    power = np.abs(np.fft.rfft(x)) ** 2
    bins = np.arange(len(power)) * rate / len(x)
    return float(np.sqrt(2 * power[(bins > 2) & (bins < 70)].sum()) / len(x))
