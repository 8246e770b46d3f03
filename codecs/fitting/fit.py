# SPDX-License-Identifier: Apache-2.0
"""The fit of a network to one signal: two stages, one loop.

    first    weights as they are            loss = D
    second   weights in steps that learn    loss = D + λ R  while R is above the target

It ends after its seconds or steps, or when it is stopped, with what it has. An error
that is no number, or many times what it was, sends it back to the last good step at
half the rate. Chen et al. 2021 (arXiv 2110.13903); Zhang et al. 2024 (arXiv
2402.18152).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.fitting.kept import read_kept, write_kept
from polycodec.codecs.fitting.loss import distance
from polycodec.codecs.fitting.optim import optimizer_of, rate_at
from polycodec.codecs.fitting.plan import Plan, Recipe, Report
from polycodec.codecs.fitting.quantized import (
    Quantized,
    decibel,
    estimated,
    weights_of,
)
from polycodec.codecs.transforms.network import Network
from polycodec.entropy_models.models.weights import WeightsModel
from polycodec.errors import ModelError

# Of the mean of the last errors against the lowest so far, and more; of one fit.
WORSE, SLACK, RESTARTS = 2.0, 1e-3, 8
LEAST_SPAN = 20  # steps of that mean: what stands for rounding is noise
TOLD, KEPT = 0.5, 60.0  # seconds between reports, between checkpoints
CLOSING = 0.03  # of the time, for what comes after the last step; and so many steps:
FINAL, ITEMS = 30, 4  # items on which `allocated` measures errors, twice a tensor
K_RATE = 0.2  # learning rate of k, sixteenths of an octave
ABOVE = 1.1  # of the target: bits that the second stage begins with


class Fit:
    """A network on its way to the signal x (N, C, *S) in [0, 1], items first.

    target: bits wanted in all; noise: the state of a generator, on the CPU. `run`
    leaves the network in ``network``, its steps in ``quantized``.
    """

    def __init__(
        self,
        network: Network,
        x: Tensor,
        entropy: WeightsModel,
        recipe: Recipe,
        plan: Plan,
        target: float,
        noise: Tensor,
    ) -> None:
        self.network, self.x, self.entropy = network, x, entropy
        self.recipe, self.plan, self.target = recipe, plan, target
        self.quantized: Quantized | None = None
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.noise = torch.Generator()
        self.noise.set_state(noise)
        self.order: list[int] = []
        self.step, self.stage_step, self.spent, self.scale = 0, 0, 0.0, 1.0
        self.restarts, self.mean, self.best = 0, float("nan"), float("inf")
        self.bits: float | None = None
        self.optimizer = self._optimizer()
        self.good = self.state()
        every = -(-len(x) // recipe.batch)
        self.total = plan.steps or every * recipe.epochs
        self.every = every
        # A step is a look at an item and the way back, which takes twice as long.
        looks = 2 * len(network.sent()) * min(ITEMS, len(x)) if recipe.packed else 0
        self.closing = FINAL + looks / (3 * recipe.batch)

    def run(self) -> None:
        """Fit until the plan's end; resumes where a checkpoint left off."""
        plan = self.plan
        if plan.kept and plan.resume and plan.kept.is_file():
            read_kept(self, plan.kept)
            over = "; its time is over, more goes on" if self.progress() >= 1 else ""
            plan.notes.append(
                f"resumed at step {self.step}, {self.progress():.0%}{over}"
            )
        began, told, kept = plan.clock() - self.spent, 0.0, self.spent
        with plan.stoppable():
            while self.progress() < 1 and not plan.stopped.is_set():
                self._advance()
                self.spent = plan.clock() - began
                if plan.tell and self.spent - told >= TOLD:
                    told = self.spent
                    plan.tell(self.report())
                if plan.kept and self.spent - kept >= KEPT:
                    kept = self.spent
                    write_kept(self, plan.kept)
            if plan.stopped.is_set() and not self.step:
                plan.unbegun.append(plan.number)
            elif plan.stopped.is_set() and self.progress() < 1:
                plan.notes.append(
                    f"the fit was stopped at step {self.step}, {self.progress():.0%}; "
                    "the file is what it had"
                    + (f"; {plan.kept} keeps it, --resume goes on" if plan.kept else "")
                )
        if plan.kept and self.step:
            write_kept(self, plan.kept)

    def progress(self) -> float:
        """How much of the time or the steps is over, 0 … 1."""
        if self.plan.seconds is None:
            return min(1.0, self.step / self.total)
        most = self.plan.seconds * (1 - CLOSING)
        if self.packs():
            most = max(most / 2, most - self.closing_seconds())
        done = self.spent / most
        return min(1.0, max(done, self.step / self.total if self.plan.steps else 0))

    def packs(self) -> bool:
        """Whether weights are packed after the last step, if there is time for it.

        What nothing else makes small is always packed.
        """
        if not self.recipe.packed or self.plan.seconds is None or not self.step:
            return self.recipe.packed
        most = self.plan.seconds * (1 - CLOSING) / 2
        return self.recipe.coding == "trellis" or self.closing_seconds() <= most

    def closing_seconds(self) -> float:
        """About how long it takes from the last step to the bytes."""
        return self.closing * self.spent / max(1, self.step)

    def report(self) -> Report:
        """Where the fit stands."""
        done = max(self.progress(), 1e-6)
        left = self.spent * (1 - done) / done
        return Report(self.step, done, decibel(self.mean), self.bits, left)

    def start_quantizing(self) -> Quantized:
        """Begin the second stage: steps of the weights as they are now."""
        embeddings = self.embeddings()
        keep = self.recipe.keep
        self.quantized = Quantized(self.network, embeddings, keep).to(self.x.device)
        if self.recipe.coding == "cem":
            lengths = self.network.lengths()

            def small(k: Tensor, codes: list[Tensor]) -> bool:
                values = torch.cat(codes)[None, None]
                _, bits = estimated(self.entropy, values, lengths, noise=False)
                return float(bits) <= ABOVE * self.target

            self.quantized.coarsened(self.network, embeddings, small)
        self.optimizer, self.stage_step = self._optimizer(), self.step
        self.mean, self.best = float("nan"), float("inf")
        self.good = self.state()
        return self.quantized

    @torch.no_grad()
    def embeddings(self) -> Tensor | None:
        """Embeddings of all items (N, d, *s); None: the network has none."""
        if self.network.embedding_size is None:
            return None
        parts = [self.network.embed(item[None]) for item in self.x]
        return torch.cat([part for part in parts if part is not None])

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        lr = recipe.lr if self.quantized is None else recipe.late_lr
        found: list[Any] = [{"params": list(self.network.parameters()), "rate": lr}]
        if self.quantized is not None and recipe.coding == "cem":
            found.append({"params": [self.quantized.k], "rate": K_RATE})
        return optimizer_of(recipe.optimizer, found, lr)

    def _advance(self) -> None:
        """One step; what diverges is set back."""
        share = 1 - self.recipe.late
        if self.quantized is None and self.progress() >= share:
            self.start_quantizing()
        late = self.quantized is not None
        done = (
            # Below 0 where a fit goes on for longer than it was begun for.
            max(0.0, (self.progress() - share) / (1 - share))
            if late
            else self.progress()
        )
        warm = 0.0 if late else self.recipe.warm
        rate = self.scale * rate_at(done, warm, self.recipe.floor)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * rate
        if not self.order:
            self.order = torch.randperm(len(self.x), generator=self.generator).tolist()
        at, self.order = (
            self.order[: self.recipe.batch],
            self.order[self.recipe.batch :],
        )
        loss, mse = self._loss(torch.tensor(at, device=self.x.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = float(mse)
        mean = value if self.mean != self.mean else self.mean
        mean += (value - mean) / max(LEAST_SPAN, 2 * self.every)
        if not mean <= WORSE * min(self.best, mean) + SLACK:  # also of no number
            self._set_back()
            return
        self.optimizer.step()
        self.step, self.mean, self.best = self.step + 1, mean, min(self.best, mean)
        if (self.step - self.stage_step) % self.every == 0:
            self.good = self.state()

    def _loss(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of items ``at``, and their mean squared error."""
        x, network = self.x[at], self.network
        embedding = network.embed(x)
        rate = None
        if self.quantized is None:
            out = network(at, embedding)
        else:
            own = self.quantized
            lengths = [p.numel() for p in network.sent().values()]
            codes, bits = estimated(
                self.entropy, own.codes(network), lengths, noise=self.noise
            )
            given = weights_of(network, codes[0, 0], own.whole)
            if embedding is not None:
                sizes = [embedding[0].numel()] * len(at)
                values = own.embedded(embedding)
                coded, more = estimated(self.entropy, values, sizes, noise=self.noise)
                embedding = (coded * own.step_of_embeddings).view(embedding.shape)
                bits = bits + more * len(self.x) / len(at)
            self.bits = float(bits.detach())
            out = torch.func.functional_call(network, given, (at, embedding))
            if self.recipe.coding == "cem" and self.bits > self.target:
                rate = bits / x[0, 0].numel()
        cut: tuple[Any, ...] = (..., *(slice(n) for n in x.shape[2:]))
        out = out[cut]
        loss = distance(out, x, self.recipe.loss)
        if rate is not None:
            loss = loss + self.recipe.lmbda * rate
        return loss, (out.detach().clamp(0, 1) - x).square().mean()

    def state(self) -> dict[str, Any]:
        """All that a fit goes on from, copied."""
        quantized = None if self.quantized is None else self.quantized.state()
        return copy.deepcopy(
            {
                "network": self.network.state_dict(),
                "quantized": quantized,
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "noise": self.noise.get_state(),
                "numbers": {
                    "step": self.step,
                    "stage_step": self.stage_step,
                    "spent": self.spent,
                    "scale": self.scale,
                    "restarts": self.restarts,
                    "mean": self.mean,
                    "best": self.best,
                    "order": self.order,
                },
            }
        )

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a state of this fit, or on from a kept one."""
        state = copy.deepcopy(state)
        self.network.load_state_dict(state["network"])
        if state["quantized"] is not None:
            if self.quantized is None:
                self.quantized = Quantized(self.network, self.embeddings(), 1.0)
            self.quantized.load(state["quantized"])
            self.optimizer = self._optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.noise.set_state(state["noise"])
        vars(self).update(state["numbers"])

    def _set_back(self) -> None:
        """Return to the last good step at half the rate; ModelError after many."""
        self.restarts += 1
        if self.restarts > RESTARTS:
            raise ModelError(
                f"the fit diverges at step {self.step} even at {self.scale:g} times "
                "its learning rate; give the config a lower fit.lr"
            )
        scale, restarts, spent = self.scale / 2, self.restarts, self.spent
        at, noise = self.step, self.noise.get_state()
        self.load(self.good)
        self.noise.set_state(noise)  # the same once more would fail once more
        self.scale, self.restarts, self.spent = scale, restarts, spent
        self.plan.notes.append(
            f"the fit diverged at step {at} and went back to step {self.step}, at "
            f"{scale:g} times the learning rate"
        )
