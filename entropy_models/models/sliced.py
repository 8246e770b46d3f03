# SPDX-License-Identifier: Apache-2.0
"""Channel slices x checkerboard passes, and any references for each: a sliced model.

    y ── h_a ──► z ──[coder]──► ẑ ── h_s ──► φ

    for slice i:                                 before = references of slices < i
        for half in (▦, ▩):                      within = references of slice i so far
            prior  = density( net_i,half(φ, before, within) ), certain where guided
            ŷ_i[half] = coder.code(y_i[half], prior)
            ŷ_i[half] += ½ tanh( residual_i,half(φ, slices < i, slice i) )      (LRP)

What a slice may look at is a list of parts (`entropy_models/references`), how a latent
is distributed another part (`priors/density.py`). MLIC++, MLICv2 and S2LIC are lists of
references. Latent residual prediction (Minnen, Singh 2020, arXiv 2007.08739) moves a
decoded value by less than half a step, on a grid of 1/64: contexts and the synthesis
see the moved value, and coding it again yields the same integer.

Everything after ẑ is exact arithmetic.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Counter, Prior
from polycodec.entropy_models.coders import straight_through
from polycodec.entropy_models.exact.activations import exact_tanh, hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions, gather
from polycodec.entropy_models.models.selective import Guidance, cross_entropy
from polycodec.entropy_models.models.slices import SlicesModel
from polycodec.entropy_models.priors.density import START, Density, Tables
from polycodec.entropy_models.priors.tables import certain_first
from polycodec.entropy_models.references.base import References, State
from polycodec.errors import ModelError
from polycodec.registry import register

Options = Mapping[str, Any]
RESIDUAL = 31 / 64  # BITSTREAM: what a predicted residual may reach, less than ½


class Layers(nn.ModuleList):
    """Exact convolutions of one kernel with hard swish between them."""

    def __init__(self, widths: Sequence[int], kernel: int = 1) -> None:
        sizes = itertools.pairwise(widths)
        super().__init__(ExactConv2d(a, b, kernel) for a, b in sizes)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self):
            x = layer(hard_swish(x) if i else x)
        return x

    def at(self, x: Tensor, where: Positions) -> Tensor:
        """The last layer's outputs at some positions only, (B, C, 1, n)."""
        last = len(self) - 1
        for i, layer in enumerate(self):
            x = hard_swish(x) if i else x
            x = layer(x) if i < last else cast("ExactConv2d", layer).at(x, where)
        return x


class Slice(nn.Module):
    """References and networks of one slice."""

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        references: Sequence[Options],
        density: Density,
        passes: int,
        parameters: Sequence[int],
        residual: Sequence[int],
        side: int,
        selective: int,
        joint: bool,
    ) -> None:
        super().__init__()
        self.density, self.side, self.joint = density, side, joint
        self.nets, self.residuals = nn.ModuleList(), nn.ModuleList()
        sizes = {"before": before, "channels": channels, "features": features}
        self.references = References(references, **sizes, passes=passes)
        widths = [features + width for width in self.references.widths()]
        for width in widths:
            net = Layers([width, *parameters, density.outputs * channels])
            last = cast("ExactConv2d", net[-1])
            last.bias.data.copy_(density.start(torch.full((channels,), START)))
            self.nets.append(net)
            if residual:
                inputs = side + before + channels
                self.residuals.append(Layers([inputs, *residual, channels], 3))

        raw = density.outputs * channels
        self.guidance = (
            Guidance(widths, raw, channels, selective) if selective else None
        )
        self.waiting: tuple[Tensor, Prior] | None = None  # for values of this pass

    def before(self, state: State) -> dict[int, Tensor]:
        """See :meth:`References.before`."""
        return self.references.before(state)

    def prior(
        self,
        half: int,
        state: State,
        before: dict[int, Tensor],
        where: Positions,
        tables: Tables | None,
    ) -> Prior:
        """What the network says of the latents of a pass, (B, C, 1, n)."""
        seen = self.references.within(half, state, before, where)
        given = torch.cat([gather(state.phi, where), *seen.values()], dim=1)
        raw = self.nets[half](given)
        prior = self.density.of(raw, tables)
        if self.guidance is None:
            return prior
        given, raw = given.detach(), raw.detach()
        logits = self.guidance(half, given, raw, self.density.doubt(raw), where)
        if self.training and tables is None and not self.joint:
            self.waiting = logits, prior
            return prior
        return prior.certain(logits <= 0)

    def missed(self, values: Tensor) -> Tensor | None:
        """What guidance gets wrong in a pass with ``values``, while training."""
        if self.waiting is None:
            return None
        (logits, prior), self.waiting = self.waiting, None
        values = values.detach()
        sure = prior.certain(torch.ones_like(values, dtype=torch.bool)).settled(values)
        return cross_entropy(logits, values - sure)

    def moved(
        self, half: int, state: State, where: Positions, values: Tensor
    ) -> Tensor:
        """The values of a pass, (B, C, 1, n), with their predicted residuals."""
        if not len(self.residuals):
            return values
        net = cast("Layers", self.residuals[half])
        side = state.phi[:, -self.side :]
        x = net.at(torch.cat([side, *state.decoded, state.current], 1), where)
        if not cast("ExactConv2d", net[0]).frozen:
            return values + RESIDUAL * torch.tanh(x)
        on_grid = torch.floor(exact_tanh(x.detach()) * 31 + 0.5) / 64
        if not x.requires_grad:
            return values + on_grid
        return values + straight_through(on_grid, RESIDUAL * torch.tanh(x))


@register("entropy/sliced")
class SlicedModel(SlicesModel):
    """Hyperprior, slices, passes, and a list of references for each slice.

    ``channels``: M; ``hyper``: N of z; ``features``: of φ; ``slices``: channels of
    each, summing to M; ``passes``: 1 or 2; ``references``: names and options of parts
    `reference/*`; ``prior``: the same of `prior/*`; ``parameters``: widths of the
    networks between them; ``residual``: widths of the networks that predict residuals,
    none for no prediction, and ``side``: how many channels of φ, the last ones, they
    see, None: all; ``selective``: width of the networks that say which values are not
    coded (`selective`), 0: all are, and ``joint``: the last stage of their training;
    ``synthesis``: widths of a deeper h_s (`hyper`).
    """

    def __init__(
        self,
        channels: int,
        *,
        hyper: int = 128,
        features: int = 192,
        slices: Sequence[int] = (32, 64, 96, 128),
        passes: int = 2,
        references: Sequence[Options] = ({"name": "near"},),
        prior: Options | str = "gaussian",
        parameters: Sequence[int] = (128,),
        residual: Sequence[int] = (),
        side: int | None = None,
        selective: int = 0,
        joint: bool = False,
        synthesis: Sequence[int] = (),
    ) -> None:
        if joint and not selective:
            raise ModelError(
                "joint is the last stage of training what selective adds, which is 0; "
                "give selective its width, or leave joint out"
            )
        super().__init__(
            channels,
            hyper=hyper,
            features=features,
            slices=slices,
            passes=passes,
            prior=prior,
            synthesis=synthesis,
        )
        self.residual = bool(residual)
        self.selective, self.losses = bool(selective), cast("list[Tensor]", [])
        self.parts = nn.ModuleList(
            Slice(
                sum(slices[:i]),
                size,
                features,
                references=references,
                density=self.density,
                passes=passes,
                parameters=parameters,
                residual=residual,
                side=side or features,
                selective=selective,
                joint=joint,
            )
            for i, size in enumerate(slices)
        )

    @property
    def whole(self) -> bool:
        return super().whole and not self.residual

    def code(self, *args: Any, **options: Any) -> Tensor:
        """See :meth:`SlicesModel.code`."""
        self.losses = []
        return super().code(*args, **options)

    def before(self, i: int, state: State) -> dict[int, Tensor]:
        return self._part(i).before(state)

    def prior(
        self,
        i: int,
        half: int,
        state: State,
        before: dict[int, Tensor],
        where: Positions,
    ) -> Prior:
        return self._part(i).prior(half, state, before, where, self.tables.get("y"))

    def moved(
        self, i: int, half: int, state: State, where: Positions, values: Tensor
    ) -> Tensor:
        if (missed := self._part(i).missed(values)) is not None:
            self.losses.append(missed)
        return self._part(i).moved(half, state, where, values)

    def penalty(self) -> Tensor | None:
        """What guidance got wrong; see :meth:`EntropyModel.penalty`."""
        return torch.stack(self.losses).mean() if self.losses else None

    def update(self) -> None:
        super().update()
        self._keep_certain()

    def refit(self, counter: Counter) -> None:
        super().refit(counter)
        self._keep_certain()

    def _keep_certain(self) -> None:
        tables = self.tables["y"]
        if self.selective and isinstance(tables, TableSet):
            self.tables["y"] = certain_first(tables)

    def last_layers(self, i: int) -> list[ExactConv2d]:
        nets = cast("Iterable[Layers]", self._part(i).nets)
        return [cast("ExactConv2d", net[-1]) for net in nets]

    def _part(self, i: int) -> Slice:
        return cast("Slice", self.parts[i])
