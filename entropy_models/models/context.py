# SPDX-License-Identifier: Apache-2.0
"""Hyperprior, checkerboard and channel contexts: one model, four names.

    y ── h_a ──► z ──[coder]──► ẑ ── h_s ──► φ            (side information)

    for slice i of the channels:                            (channel context)
        for half in (▦ anchors, ▩ the rest):                (checkerboard)
            means, index = net_i(φ, slices < i, what is known of slice i)
            ŷ_i[half] = coder.code(y_i[half], prior(means, index))

One slice and one pass is the mean-scale hyperprior (Minnen, Ballé, Toderici 2018,
arXiv 1809.02736); one slice and two passes the checkerboard (He et al. 2021, arXiv
2103.15306); slices without passes the channel-wise model (Minnen, Singh 2020, arXiv
2007.08739); both together follow ELIC (He et al. 2022, arXiv 2203.10886), which
also has slices that grow: the first few channels carry most of the energy.

The loop is that of `slices`. References (`entropy_models/references`) may show a net
more than its kernel does, on trained weights too (`adopted`). Contexts read decoded
integers plus means on a grid of 1/16, never floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.base import Prior
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions, gather
from polycodec.entropy_models.models.slices import SlicesModel
from polycodec.entropy_models.priors.density import START, Density
from polycodec.entropy_models.references.base import References, State
from polycodec.errors import ModelError
from polycodec.registry import register

Options = Mapping[str, Any] | str


class SliceParameters(nn.Module):
    """What a density of one slice needs, from all that is decoded so far."""

    def __init__(
        self,
        features: int,
        before: int,
        channels: int,
        kernel: int,
        hidden: int,
        density: Density,
        passes: int,
        references: Sequence[Options],
    ) -> None:
        super().__init__()
        sizes = {"before": before, "channels": channels, "features": features}
        self.references = References(references, **sizes, passes=passes)
        more = sum(part.width for part in self.references)
        # One more input channel says which positions of the slice are known.
        self.context = ExactConv2d(before + channels + 1, hidden, kernel)
        self.mix = ExactConv2d(features + hidden + more, hidden, 1)
        self.out = ExactConv2d(hidden, density.outputs * channels, 1)
        self.out.bias.data.copy_(density.start(torch.full((channels,), START)))

    def forward(
        self, half: int, state: State, before: dict[int, Tensor], where: Positions
    ) -> Tensor:
        """(B, outputs · C, 1, n), of the n positions in ``where``."""
        phi = state.phi
        flag = state.known.to(phi.dtype).expand(len(phi), 1, *phi.shape[2:])
        known = torch.cat([*state.decoded, state.current, flag], dim=1)
        context = F.relu(self.context.at(known, where))
        seen = self.references.within(half, state, before, where)
        none = context[:, :1] * 0  # of a reference that this pass does not look at
        more = [
            seen.get(k, none.expand(-1, part.width, -1, -1))
            for k, part in enumerate(self.references)
        ]
        features = torch.cat([gather(phi, where), context, *more], dim=1)
        return self.out(F.relu(self.mix(features)))


@register("entropy/context")
class ContextModel(SlicesModel):
    """Hyperprior with channel slices and checkerboard passes.

    ``channels``: M of the latent; ``hyper``: N of z; ``features``: width of φ;
    ``slices``: channels of each slice, summing to M; ``kernels``: context kernel of
    each slice; ``passes``: 1 (all positions at once) or 2 (checkerboard); ``prior``:
    name and options of `prior/*`; ``references``: names and options of `reference/*`,
    which see more than the kernels do. Those of a model that had none start unheard
    with `run.init`: its estimates are the same at first.
    """

    def __init__(
        self,
        channels: int,
        *,
        hyper: int = 128,
        features: int = 192,
        slices: Sequence[int] = (16, 32, 48, 96),
        kernels: Sequence[int] = (5, 5, 3, 3),
        hidden: int = 128,
        passes: int = 2,
        prior: Options = "gaussian",
        references: Sequence[Options] = (),
    ) -> None:
        super().__init__(
            channels,
            hyper=hyper,
            features=features,
            slices=slices,
            passes=passes,
            prior=prior,
        )
        kernels = tuple(kernels)
        if len(kernels) != len(slices) or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ModelError(
                f"kernels {kernels} for {len(slices)} slices {slices}; expected one "
                "odd kernel for each slice"
            )
        starts = [sum(slices[:i]) for i in range(len(slices))]
        self.nets = nn.ModuleList(
            SliceParameters(
                features,
                start,
                size,
                kernel,
                hidden,
                self.density,
                passes,
                references,
            )
            for start, size, kernel in zip(starts, slices, kernels, strict=True)
        )

    def before(self, i: int, state: State) -> dict[int, Tensor]:
        return self._net(i).references.before(state)

    def prior(
        self,
        i: int,
        half: int,
        state: State,
        before: dict[int, Tensor],
        where: Positions,
    ) -> Prior:
        raw = self._net(i)(half, state, before, where)
        return self.density.of(raw, self.tables.get("y"))

    def adopted(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `EntropyModel.adopted`: references that are new have no weight yet."""
        adopted = super().adopted(known)
        for i in range(len(self.slices)):
            key, own = f"nets.{i}.mix.weight", self._net(i).mix.weight
            old = adopted.get(key)
            if old is not None and old.shape[1] < own.shape[1]:
                wider = old.new_zeros(own.shape)
                wider[:, : old.shape[1]] = old
                adopted[key] = wider
        return adopted

    def last_layers(self, i: int) -> list[ExactConv2d]:
        return [self._net(i).out]

    def _net(self, i: int) -> SliceParameters:
        return cast("SliceParameters", self.nets[i])


@register("entropy/hyperprior")
def hyperprior(
    channels: int,
    *,
    hyper: int = 128,
    features: int = 192,
    hidden: int = 128,
    prior: Options = "gaussian",
) -> ContextModel:
    """Mean-scale hyperprior: every latent at once, given z."""
    shared: dict[str, Any] = {"hyper": hyper, "features": features, "hidden": hidden}
    return ContextModel(
        channels, slices=(channels,), kernels=(1,), passes=1, prior=prior, **shared
    )


@register("entropy/checkerboard")
def checkerboard_model(
    channels: int,
    *,
    hyper: int = 128,
    features: int = 192,
    hidden: int = 128,
    kernel: int = 5,
    prior: Options = "gaussian",
) -> ContextModel:
    """Two passes: the second half of the positions sees the first."""
    shared: dict[str, Any] = {"hyper": hyper, "features": features, "hidden": hidden}
    return ContextModel(
        channels,
        slices=(channels,),
        kernels=(kernel,),
        passes=2,
        prior=prior,
        **shared,
    )


@register("entropy/channel")
def channel_model(
    channels: int,
    *,
    groups: int = 4,
    hyper: int = 128,
    features: int = 192,
    hidden: int = 128,
    kernel: int = 3,
    prior: Options = "gaussian",
) -> ContextModel:
    """Channel slices of equal size, each seeing those before it."""
    if not 1 <= groups <= channels:
        raise ModelError(f"{groups} groups of {channels} channels; expected fewer")
    size = channels // groups
    slices = (size,) * (groups - 1) + (channels - size * (groups - 1),)
    shared: dict[str, Any] = {"hyper": hyper, "features": features, "hidden": hidden}
    return ContextModel(
        channels,
        slices=slices,
        kernels=(kernel,) * groups,
        passes=1,
        prior=prior,
        **shared,
    )
