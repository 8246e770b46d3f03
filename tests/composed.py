# SPDX-License-Identifier: Apache-2.0
"""Codecs of images that can be composed of what is registered, tiny.

    every transform x every entropy model of latents x every density x, under models
    that take them, every reference

`tests/contracts/test_matrix.py` takes cells that cover it, `docs/checks/matrix.py` all
of them. A newly registered part takes part without a line here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from tiny_parts import VARIANTS, section

from polycodec.entropy_models.base import EntropyModel
from polycodec.registry import build, find, names, options_of
from polycodec.train.image.task import rate_distortion

M, KNOTS = 12, 3


def of_kind(kind: str) -> list[str]:
    """Names of the parts of ``kind``, those of tests left out."""
    every = (name.partition("/")[2] for name in names(f"{kind}/*"))
    return [name for name in every if not name.startswith("test-")]


def codes(entropy: str) -> str:
    """What an entropy model codes; builders build models of latents."""
    part = find(f"entropy/{entropy}")
    return part.codes if isinstance(part, type) else EntropyModel.codes


# Transforms of speech have their own tests.
TRANSFORMS = [n for n in of_kind("transform") if find(f"transform/{n}").kind == "image"]
# So have models of tokens, of weights, and of the latents of sound.
ENTROPY = [
    n
    for n in of_kind("entropy")
    if codes(n) == EntropyModel.codes
    and getattr(find(f"entropy/{n}"), "kind", None) != "speech"
]
PRIORS = of_kind("prior")


class Model(NamedTuple):
    """An entropy model: its name and density, and its section of a config."""

    label: str
    name: str
    prior: str
    section: dict[str, Any]


def models() -> Iterator[Model]:
    """Every entropy model of latents with every density and reference it can have."""
    small = {one["name"]: one for one in section("entropy", "sliced")["references"]}
    for name in ENTROPY:
        takes = options_of(f"entropy/{name}")
        for prior in PRIORS if "prior" in takes else [""]:
            given = section("entropy", name) | ({"prior": prior} if prior else {})
            label = f"{name}-{prior}" if prior else name
            yield Model(label, name, prior, given)
            if "references" in takes:
                for one in of_kind("reference"):
                    alone = {**given, "references": [small.get(one, {"name": one})]}
                    yield Model(f"{label}-{one}", name, prior, alone)
    for number, (part, options) in enumerate(VARIANTS):
        kind, _, name = part.partition("/")
        if kind == "entropy":
            given = section(kind, name) | options
            yield Model(f"{name}-variant-{number}", name, "", given)


def cells() -> list[tuple[str, Model]]:
    """All of the product: a transform, and a model."""
    return [(transform, model) for model in models() for transform in TRANSFORMS]


def covering() -> list[tuple[str, Model]]:
    """Cells in which every model is met, and every transform with every name of a model
    and of a density."""
    found: list[tuple[str, Model]] = []
    met: set[tuple[str, str]] = set()
    for k, model in enumerate(models()):
        turn = TRANSFORMS[k % len(TRANSFORMS) :] + TRANSFORMS[: k % len(TRANSFORMS)]
        new = [{(t, model.name), (t, model.prior)} - met for t in turn]
        best = max(range(len(turn)), key=lambda i: len(new[i]))
        met |= new[best]
        found.append((turn[best], model))
    for transform, model in cells():
        new_here = {(transform, model.name), (transform, model.prior)} - met
        if new_here:
            met |= new_here
            found.append((transform, model))
    return found


def refused() -> Iterator[Model]:
    """Models that cannot be combined with transforms of images, or with a density."""
    for name in of_kind("entropy"):
        given = section("entropy", name)
        if name not in ENTROPY:
            yield Model(name, name, "", given)
        elif "prior" not in options_of(f"entropy/{name}"):
            for prior in PRIORS:
                more = {**given, "prior": prior}
                yield Model(f"{name}-{prior}", name, prior, more)


@contextmanager
def tables_made_once() -> Iterator[None]:
    """While this lasts: tables of a density that were fitted to nothing are kept."""
    before = {part: part.tables for part in (find(f"prior/{n}") for n in PRIORS)}
    kept: dict[type, Any] = {}

    def once(part: type, self: Any, counter: Any = None) -> Any:
        if counter is not None:
            return before[part](self, counter)
        if part not in kept:
            kept[part] = before[part](self)
        return kept[part]

    for part in before:
        part.tables = functools.partialmethod(functools.partial(once, part))
    try:
        yield
    finally:
        for part, tables in before.items():
            part.tables = tables


def codec_section(transform: str, entropy: dict[str, Any]) -> dict[str, Any]:
    """The section ``codec`` of a config."""
    return {
        "channels": M,
        "knots": KNOTS,
        "transform": section("transform", transform),
        "entropy": entropy,
    }


def picture(height: int, width: int, batch: int = 1) -> torch.Tensor:
    """Smooth colours with some noise, (B, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(batch, 3, 4, 4, generator=generator)
    fine = torch.rand(batch, 3, height, width, generator=generator)
    smooth = torch.nn.functional.interpolate(
        coarse, (height, width), mode="bilinear", align_corners=False
    )
    return (0.85 * smooth + 0.15 * fine).clamp(0, 1)


def two_steps(codec: Any, x: torch.Tensor) -> tuple[list[float], set[str], bool]:
    """Train on x (2, 3, H, W): losses, names of what moved, whether all is finite."""
    before = {k: v.clone() for k, v in codec.named_parameters()}
    optimizer = build("optimizer/adam", params=codec.parameters(), lr=1e-3)
    level, losses = torch.tensor([0.3, 1.7]), []
    for _ in range(2):
        out = codec(x, level)
        lmbda = codec.lmbda_of(level)
        loss, _, _ = rate_distortion(out.bits, out.x_hat, x, lmbda, 0.5)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    moved = {k for k, v in codec.named_parameters() if not torch.equal(v, before[k])}
    finite = all(bool(v.isfinite().all()) for v in codec.parameters())
    return losses, moved, finite


LATENT_PARTS = ("entropy.", "rates.gain", "rates.inverse_gain")


def check_moved(moved: set[str], parts: tuple[str, ...] = LATENT_PARTS) -> None:
    """AssertionError unless something moved in both ways of the transform, and in
    every other part."""
    encoder, decoder = ("g_a", "analysis"), ("g_s", "synthesis")  # as parts name them
    for half in (encoder, decoder):
        starts = tuple(f"transform.{name}." for name in half)
        assert any(name.startswith(starts) for name in moved), half
    for part in parts:
        assert any(name.startswith(part) for name in moved), part


def check_cell(transform: str, entropy: dict[str, Any], side: int = 64) -> None:
    """AssertionError unless this codec is built, takes two steps, and codes bytes.

    At an odd size: what is read is what was written, and about as long as estimated.
    """
    torch.manual_seed(0)
    codec = build("codec/latent", **codec_section(transform, entropy))
    x = picture(side, side, 2)
    codec.initialise(x)
    losses, moved, finite = two_steps(codec, x)
    assert finite and all(0 < loss < 1e6 for loss in losses), losses
    check_moved(moved)
    codec.freeze(lambda codec: codec(x, torch.tensor([0.0, KNOTS - 1.0])))
    check_coded(codec, 70)


def check_coded(codec: Any, quality: float) -> None:
    """AssertionError unless what is read is what was written, and about as long as
    estimated, at an odd size."""
    level, odd = codec.level_of(quality), picture(37, 53)
    coded = codec.write(codec.encode_codes(odd, level), level)
    found = codec.read(coded.data, level, codec.grid((37, 53)))
    assert torch.equal(found, coded.codes)
    assert 8 * len(coded.data[0]) <= 1.01 * coded.estimated_bits[0] + 8 * 64
    x_hat = codec.decompress(codec.compress(odd, quality))
    assert x_hat.shape == odd.shape and bool(x_hat.isfinite().all())
