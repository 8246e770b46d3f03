# SPDX-License-Identifier: Apache-2.0
"""Speech: random seconds of many speakers, spectral losses, staged codebooks.

The stages in which a token codec learns its codebooks.

    A   steps 0 … unquantized     transform alone, latents pass as they are
    B   between two steps         codebooks are built from latents of training crops
    C   from there on             all together, with some items at fewer levels
        at `rebuild`              B once more, on the latents of by then

Codebooks that start from the latents of a trained encoder are used evenly from the
first step. B is a function of (seed, step), as every step is: a resumed run that
passes it repeats it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.measures import speech as measures
from polycodec.codecs.quantizers.base import Quantizer
from polycodec.codecs.signals.speech import SpeechSignal
from polycodec.errors import InputError, UsageError
from polycodec.registry import register
from polycodec.train.adversary import Adversary
from polycodec.train.config import TrainConfig
from polycodec.train.speech.data import SpeechCache, SpeechSource
from polycodec.train.speech.discriminators import Discriminators
from polycodec.train.speech.loss import Balancer, SpeechLoss
from polycodec.train.task import Task, made_for
from polycodec.train.token import active_levels, builds_at

VALIDATION_BATCH = 4
BUILD_STEPS = 1 << 40  # steps whose batches serve building only
SILENCE = 1e-4  # root mean square of a frame that no codebook is built from
MOST_BATCHES = 20_000


@register("task/speech/token")
class SpeechTask(Task):
    """The token family on speech."""

    sections: ClassVar[tuple[str, ...] | None] = ("adversary", "loss", "stages")

    family: ClassVar[type[nn.Module]] = TokenCodec

    def open(self, codec: Codec) -> None:
        config, data, say = self.config, self.config.data, self.log.decoding
        self.rate = made_for(SpeechSignal, codec.signal).rate
        self.hop = codec.stride
        with self.fabric.rank_zero_first(local=True):  # one process fills the cache
            recordings = SpeechCache(data.train, data.cache, self.rate, say)
        self.source = speech_source(config, recordings, self.rate, self.hop)
        self.criterion = SpeechLoss(config.loss, self.rate)
        self.fabric.to_device(self.criterion)
        self.levels = validation_levels(config.eval.levels, codec.levels)
        self.adversary: Adversary | None = None
        self.balancer: Balancer | None = None
        if config.loss.balance:
            self.balancer = Balancer(reduce=self.mean_of_processes)

    @property
    def _quantizer(self) -> Quantizer:
        return made_for(TokenCodec, self.codec).quantizer

    def setup(self) -> None:
        """Build discriminators, where the config names some."""
        section = self.config.adversary
        if section.names:
            run = self.fabric, self.precision, Discriminators(section)
            self.adversary = Adversary(section, *run)

    def begin(self, step: int) -> tuple[str, ...]:
        """Build the codebooks where a stage ends."""
        if not builds_at(self.config.stages, step):
            return ()
        started = time.monotonic()
        z = self._latents(step)
        self.log.say(f"building codebooks from {len(z)} latents")
        torch.manual_seed(self.config.run.seed)
        quantizer = self._quantizer
        quantizer.initialise(self.fabric.to_device(z))
        sizes = "+".join(map(str, quantizer.sizes))
        spent = time.monotonic() - started
        self.log.event("codebooks", step, sizes=sizes, seconds=round(spent, 2))
        return ("quantizer.",)

    def _latents(self, step: int) -> Tensor:
        def analyse(x: Tensor) -> Tensor:
            with self.precision():
                return self.codec.transform.g_a(self.fabric.to_device(x))

        self.model.eval()
        z = collect(analyse, self.source, self.config.stages.frames, step)
        self.model.train()
        return z

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return spectral and waveform terms of a batch and the quantizer's own."""
        x, rng = self.source.batch_at(step, self.fabric.global_rank)
        torch.manual_seed(int(rng.integers(2**62)))
        stages = self.config.stages
        quantize = step >= stages.unquantized
        active = active_levels(x.shape[0], self.codec.levels, stages.vary)
        x, active = self.fabric.to_device(x), self.fabric.to_device(active)
        with self.precision():
            out = self.forward(x, active, quantize=quantize)
        commitment = out.loss.float().mean()
        loss, values = self._distance(step, out.x_hat.float(), x)
        return loss + commitment, {**values, "commitment": commitment.detach()}

    def _distance(
        self, step: int, x_hat: Tensor, x: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar whose gradient the decoder gets, and terms for the log."""
        values: dict[str, Tensor] = {}
        # Terms see a leaf: their gradients can be weighed before the decoder's pass.
        leaf = x_hat.detach().requires_grad_() if self.balancer else x_hat
        terms, weights = self.criterion(leaf, x), dict(self.criterion.weights)
        section = self.config.adversary
        if self.adversary and step >= section.start:
            values["discriminators"] = self.adversary.learn(x_hat, x)
            terms |= self.adversary.terms(leaf, x)
            weights |= {"adversary": section.weight, "feature": section.feature}
        total = sum(weights[name] * value for name, value in terms.items())
        values |= {name: value.detach() for name, value in terms.items()}
        if self.balancer is None:
            return total, values
        gradient = self.balancer.gradient(terms, weights, leaf)
        return (x_hat * gradient).sum(), {"loss": total.detach(), **values}

    def state(self) -> dict[str, Any]:
        """Return discriminators and the balancer's running norms."""
        return {name: part.state() for name, part in self._trained().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`; a part the checkpoint has not starts fresh."""
        for name, part in self._trained().items():
            if name in state:
                part.load_state(state[name])

    def _trained(self) -> dict[str, Adversary | Balancer]:
        """Return what the task trains beside the codec, as checkpoints call it."""
        parts = {"adversary": self.adversary, "balancer": self.balancer}
        return {name: part for name, part in parts.items() if part is not None}

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Measure speakers never trained on, at several numbers of levels."""
        section = self.config.eval
        length = whole_frames(section.seconds, self.rate, self.hop)
        x, lengths = self.source.validation(length, section.utterances)
        if step <= self.config.stages.unquantized:
            x_hat, _ = self._decoded(x, 0)
            return [{"levels": 0, **self._scores(x, x_hat, lengths)}]
        rows = []
        for levels in self.levels:
            x_hat, outputs = self._decoded(x, levels)
            row = {"levels": levels, **self._rates(outputs, levels, lengths)}
            rows.append({**row, **self._scores(x, x_hat, lengths)})
        return rows

    def _scores(
        self, x: Tensor, x_hat: Tensor, lengths: Sequence[int]
    ) -> dict[str, float]:
        """Return means of the measures over x, x̂ (n, 1, T), each of its own length."""
        rows = zip(x, x_hat, lengths, strict=True)
        pairs = ((a[0, :n], b[0, :n]) for a, b, n in rows)
        return measures.mean_scores(pairs, self.rate)

    def _decoded(self, x: Tensor, levels: int) -> tuple[Tensor, list[Any]]:
        """x̂ (n, 1, T) and what the codec gave; latents as they are at 0 levels."""
        outputs = []
        for part in x.split(VALIDATION_BATCH):
            rates = torch.full((len(part),), max(levels, 1), device=self.fabric.device)
            part = self.fabric.to_device(part)
            with self.precision():
                outputs.append(self.model(part, rates, quantize=levels > 0))
        return torch.cat([out.x_hat.float().cpu() for out in outputs]), outputs

    def _rates(
        self, outputs: list[Any], levels: int, lengths: list[int]
    ) -> dict[str, Any]:
        """Return fixed-width and order-0 kbps, perplexity and used codes of levels."""
        codes = torch.cat([out.codes[:, :levels].cpu() for out in outputs])
        frames = torch.tensor([-(-n // self.hop) for n in lengths])
        inside = torch.arange(codes.shape[-1]) < frames[:, None]
        kept = codes.movedim(1, -1)[inside].T[None]  # (1, levels, positions)
        usage = self._quantizer.usage(kept)
        perplexity = usage["perplexity"]
        per_second = self.rate / self.hop / 1000
        sizes = self._quantizer.sizes[: len(perplexity)]
        return {
            "kbps": per_second * sum(map(math.log2, sizes)),
            "order0_kbps": per_second * sum(map(math.log2, perplexity)),
            "perplexity": [round(p, 1) for p in perplexity],
            "used": usage["used"],
        }

    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Return kbps and measures of every number of levels."""
        texts = []
        for row in rows:
            head = f"{row['kbps']:.2f} kbps" if row["levels"] else "unquantized"
            names = [n for n in measures.VALIDATION if n in row]
            texts.append(f"{head} " + " ".join(f"{n} {row[n]:.3f}" for n in names))
        return " | ".join(texts)


def whole_frames(seconds: float, rate: int, hop: int) -> int:
    """Return samples of a duration, in whole frames, one at least."""
    return max(1, round(seconds * rate / hop)) * hop


def speech_source(
    config: TrainConfig, recordings: SpeechCache, rate: int, hop: int
) -> SpeechSource:
    """Draw crops as the config wants them; InputError where nobody is held out."""
    data = config.data
    if data.gain[0] > data.gain[1]:
        raise UsageError(f"data.gain is {data.gain}; expected low, high")
    source = SpeechSource(
        recordings,
        length=whole_frames(data.seconds, rate, hop),
        batch=data.batch,
        seed=config.run.seed,
        holdout=data.holdout,
        gain=data.gain,
    )
    if not source.held_out:
        raise InputError("no recording is held out for validation; add recordings")
    return source


def validation_levels(wanted: tuple[int, ...], levels: int) -> tuple[int, ...]:
    """Return numbers of levels to validate at: given, or powers of two and all."""
    if any(not 1 <= n <= levels for n in wanted):
        raise UsageError(
            f"eval.levels is {wanted}; expected numbers of levels, 1 … {levels}"
        )
    powers = {1 << k for k in range(levels.bit_length())}
    return tuple(sorted(wanted or {n for n in powers if n <= levels} | {levels}))


@torch.no_grad()
def collect(
    analyse: Callable[[Tensor], Tensor],
    source: SpeechSource,
    frames: int,
    first: int,
    rank: int = 0,
) -> Tensor:
    """Collect N = ``frames`` latents (N, D) of training crops, no silent ones.

    ``analyse``: (B, 1, T) -> (B, D, F). ``first``: the step this happens before.
    """
    rows, have = [], 0
    for i in range(MOST_BATCHES):
        x, _ = source.batch_at(BUILD_STEPS + first * MOST_BATCHES + i, rank)
        z = analyse(x)
        level = x.unflatten(-1, (z.shape[-1], -1)).square().mean(-1).sqrt()[:, 0]
        kept = z.float().cpu().transpose(1, 2)[level > SILENCE]
        rows.append(kept)
        have += len(kept)
        if have >= frames:
            return torch.cat(rows)[:frames]
    raise InputError(
        f"{MOST_BATCHES} batches have {have} frames that are not silent, codebooks "
        f"need {frames}; lower stages.frames or remove silent recordings"
    )
