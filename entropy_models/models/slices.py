# SPDX-License-Identifier: Apache-2.0
"""The order in which a latent is coded: slices of its channels, halves of each.

    y ── h_a ──► z ──[coder]──► ẑ ── h_s ──► φ            (side information)

    for slice i of the channels:
        before = what is computed once, of slices < i
        for half in (▦ anchors, ▩ the rest):
            prior     = of φ, before, and what is known of slice i
            ŷ_i[half] = moved( coder.code(y_i[half], prior) )

Said once, for training, encoding and decoding, and for every model with a hyperprior:
a model says what `before`, `prior` and `moved` are. Everything after ẑ is exact
arithmetic (`exact/`). Ballé et al. 2018 (arXiv 1802.01436) for z, He et al. 2021 (arXiv
2103.15306) for the halves, Minnen and Singh 2020 (arXiv 2007.08739) for the slices.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from polycodec.entropy_models.base import Coder, Counter, EntropyModel, Prior, Shape
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions, gather
from polycodec.entropy_models.models.hyper import hyper_pair
from polycodec.entropy_models.priors.density import Density, density_of
from polycodec.entropy_models.priors.factorized import Factorized, FactorizedPrior
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_MIN
from polycodec.entropy_models.references.base import State
from polycodec.errors import ModelError


class SlicesModel(EntropyModel):
    """Base of models that code channel slices by halves, given side information.

    ``channels``: M; ``hyper``: N of z; ``features``: of φ; ``slices``: channels of
    each, summing to M; ``passes``: 1 or 2; ``prior``: name and options of `prior/*`,
    what latents are distributed by; ``synthesis``: see `hyper_pair`.
    """

    stride = 4  # of z against y
    density: Density

    def __init__(
        self,
        channels: int,
        *,
        hyper: int,
        features: int,
        slices: Sequence[int],
        passes: int,
        prior: Mapping[str, Any] | str,
        synthesis: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_slices(channels, slices, passes)
        self.channels, self.slices = channels, tuple(slices)
        self.passes, self.hyper, self.density = passes, hyper, density_of(prior)
        self.h_a, self.h_s = hyper_pair(channels, hyper, features, synthesis)
        self.prior_z = FactorizedPrior(hyper)

    @property
    def whole(self) -> bool:
        return self.density.whole

    def before(self, i: int, state: State) -> Any:
        """What slice i needs of the slices before it, computed once."""
        return None

    @abc.abstractmethod
    def prior(
        self, i: int, half: int, state: State, before: Any, where: Positions
    ) -> Prior:
        """The prior of slice i at the positions of a pass, (B, C, 1, n)."""

    def moved(
        self, i: int, half: int, state: State, where: Positions, values: Tensor
    ) -> Tensor:
        """The decoded values of a pass, (B, C, 1, n), as all that follows sees them."""
        return values

    @abc.abstractmethod
    def last_layers(self, i: int) -> Iterable[ExactConv2d]:
        """The layers that say the densities of slice i: where scales begin."""

    def code(
        self,
        coder: Coder,
        y: Tensor | None,
        size: Shape,
        *,
        z: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Size: (B, h, w)."""
        batch, h, w = size
        if z is None and y is not None:
            z = self.h_a(y)
        z_shape = (batch, self.hyper, -(-h // 4), -(-w // 4))
        z_hat = coder.code(z, Factorized(self.prior_z, self.table("z")), z_shape)
        phi = self.h_s(z_hat, (h, w))
        latents = (None,) * len(self.slices) if y is None else y.split(self.slices, 1)
        decoded: list[Tensor] = []
        for i, (channels, latent) in enumerate(zip(self.slices, latents, strict=True)):
            empty = phi.new_zeros((batch, channels, h, w))
            known = torch.zeros(h, w, dtype=torch.bool, device=phi.device)
            state = State(phi, decoded, empty, known)
            before = self.before(i, state)
            for half, where in enumerate(passes_of(self.passes, h, w, phi.device)):
                state.half = half
                prior = self.prior(i, half, state, before, where)
                value = None if latent is None else prior.settled(gather(latent, where))
                values = coder.code(value, prior, (batch, channels, 1, len(where)))
                state.place(where, values)
                moved = self.moved(i, half, state, where, values)
                if moved is not values:
                    state.place(where, moved)
            decoded.append(state.current)
        return torch.cat(decoded, dim=1)

    def side(self, y: Tensor) -> Tensor:
        """z (B, N, ceil(h/4), ceil(w/4))."""
        return self.h_a(y)

    @torch.no_grad()
    def initialise(self, deviation: Tensor) -> None:
        """Start the table indexes at those of the channels' deviations, (M,)."""
        index = torch.log(deviation.clamp_min(SCALE_MIN) / SCALE_MIN) / LOG_STEP
        for i, start in enumerate(index.split(self.slices)):
            for layer in self.last_layers(i):
                layer.bias.copy_(self.density.start(start))

    def adopted(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `EntropyModel.adopted`: Gaussians become nearly the same mixtures."""
        names = {module: name for name, module in self.named_modules()}
        adopted = dict(known)
        for layer in (x for i in range(len(self.slices)) for x in self.last_layers(i)):
            for leaf, own in layer.named_parameters():
                key = f"{names[layer]}.{leaf}"
                rows = 2 * len(own) // self.density.outputs
                if key in known and len(own) != len(known[key]) == rows:
                    adopted[key] = self.density.widened(known[key])
        return adopted

    def update(self) -> None:
        """Build the integer tables; afterwards the model can code."""
        self.tables = {"y": self.density.tables(), "z": self.prior_z.freeze_tables()}

    def counter(self) -> Counter | None:
        return self.density.counter()

    def refit(self, counter: Counter) -> None:
        """Fit the tables of y; see :meth:`EntropyModel.refit`."""
        self.tables["y"] = self.density.tables(counter)


def passes_of(passes: int, h: int, w: int, device: torch.device) -> list[Positions]:
    """The positions of each pass: all at once, or the halves of a checkerboard."""
    if passes == 1 or h * w == 1:  # one position leaves no second half
        return [Positions.everywhere(h, w, device)]
    return [Positions.checkerboard(h, w, half, device) for half in (0, 1)]


def check_slices(channels: int, slices: Sequence[int], passes: int) -> None:
    """Refuse slices that do not cut ``channels`` into parts."""
    slices = tuple(slices)
    if sum(slices) != channels or min(slices, default=0) < 1:
        raise ModelError(
            f"the slices of the entropy model hold {sum(slices)} channels; the "
            f"transform yields {channels}; make slices {slices} sum to it, each "
            "at least 1"
        )
    if passes not in (1, 2):
        raise ModelError(f"passes is {passes}; expected 1, or 2 for a checkerboard")
