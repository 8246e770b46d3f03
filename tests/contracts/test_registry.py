# SPDX-License-Identifier: Apache-2.0
"""The whole registry: every part is of its kind's class, documented, and listed.

A newly registered part takes part without a line here. What is built, coded and trained
of each kind: codecs of images `test_codecs.py`, transforms `test_transforms.py`,
quantizers `test_quantizers.py`, models of tokens `test_tokens.py`.
"""

from __future__ import annotations

import importlib
import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from polycodec import registry
from polycodec.codecs.base import Codec
from polycodec.codecs.heads.base import Head
from polycodec.codecs.quantizers.base import Quantizer
from polycodec.codecs.quantizers.weights.base import WeightQuantizer
from polycodec.codecs.signals.base import Signal
from polycodec.codecs.transforms.base import Transform
from polycodec.codecs.transforms.network import Network
from polycodec.entropy_models.base import EntropyModel
from polycodec.entropy_models.priors.density import Density
from polycodec.entropy_models.references.base import Reference
from polycodec.errors import ModelError
from polycodec.registry import KINDS, build, find, names, options_of
from polycodec.train.export import Recipe
from polycodec.train.task import Task

BASES: dict[str, type] = {
    "codec": Codec,
    "signal": Signal,
    "transform": Transform,
    "network": Network,
    "head": Head,
    "quantizer": Quantizer,
    "weights": WeightQuantizer,
    "entropy": EntropyModel,
    "reference": Reference,
    "prior": Density,
    "optimizer": torch.optim.Optimizer,
    "task": Task,
    "recipe": Recipe,
}
# Builders, not classes, that need more than what a codec gives its parts, and what.
BUILDERS: dict[str, dict] = {
    "codec/latent-speech": {"transform": {"width": 4} | {"name": "seanet"}},
}
WEIGHT = torch.nn.Parameter(torch.zeros(2, 2))
# What is given to the options of builders by those names.
VALUES = {
    **{"channels": 8, "sizes": (4, 4), "before": 4, "features": 8, "size": (8, 8)},
    **{"params": [WEIGHT], "lr": 1e-3, "matrices": [WEIGHT]},
}
# Options that whoever builds a part gives it.
GIVEN = {
    "transform": {"channels"},
    "network": {"size", "channels"},
    "head": {"features"},
    "quantizer": {"channels"},
    "entropy": {"channels", "sizes"},
    "reference": {"before", "channels", "features"},
    "optimizer": {"params", "lr", "matrices"},
    "task": {"codec", "config", "fabric", "log"},
    "recipe": {"config", "say"},
}
EVERY = [
    name
    for kind in KINDS
    for name in names(f"{kind}/*")
    if not name.split("/")[1].startswith("test-")  # of other tests, in this process
]


def test_every_kind_has_a_base_and_parts():
    assert set(BASES) == set(KINDS)
    assert {name.split("/")[0] for name in EVERY} == set(KINDS)


@pytest.mark.parametrize("name", EVERY)
def test_a_part_is_of_its_kinds_class(name):
    kind, part = name.split("/")[0], find(name)
    if not inspect.isclass(part):
        given = {k: v for k, v in VALUES.items() if k in options_of(name)}
        given |= BUILDERS.get(name, {})
        part = type(build(name, **given))
    assert issubclass(part, BASES[kind]) and not inspect.isabstract(part)


@pytest.mark.parametrize("name", EVERY)
def test_a_part_is_documented_and_its_options_have_defaults(name):
    part, given = find(name), GIVEN.get(name.split("/")[0], set())
    assert inspect.getdoc(part) and part.__module__
    for option, parameter in options_of(name).items():
        open_ended = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        has_default = parameter.default is not parameter.empty
        assert has_default or open_ended or option in given, option


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("transform/conv", {"shortcut": "no"}, "'shortcut'.* is 'no'; .*true or false"),
        ("transform/conv", {"shortcut": 1}, "'shortcut' .* is 1; expected true or fal"),
        ("transform/conv", {"shortcut": None}, "is None; expected true or false"),
        ("transform/conv", {"width": 1.5}, "'width' .* is 1.5; expected a whole num"),
        ("transform/conv", {"width": True}, "'width' .* is True; expected a whole num"),
        ("transform/residual", {"slope": "x"}, "'slope' .* is 'x'; expected a number"),
        ("transform/residual", {"slope": float("nan")}, "is nan; expected a number"),
        ("transform/mixing", {"blocks": 3}, "'blocks' .* is 3; expected a name"),
        ("quantizer/cascade", {"running": "4"}, "is '4'; expected true or false"),
        ("transform/vqgan", {"decoder_depth": "4"}, "is '4'; expected .* or null"),
        ("transform/residual", {"widths": [0, 8]}, "cannot build 'transf"),
        ("transform/residual", {"widths": [8]}, r"by default widths is \[128, 192\]"),
        (
            "transform/residual",
            {"analysis_depths": [1]},
            "cannot .*by default analysis",
        ),
        ("transform/swin", {"width": 16, "heads": [3, 4, 4]}, "3 heads; .* 16 chan"),
    ],
)
def test_options_have_the_types_that_parts_state(name, options, said):
    with pytest.raises(ModelError, match=said):
        build(name, channels=8, **options)


def test_a_layer_without_numbers_is_named():
    given = {"name": "conv", "width": 0}
    with pytest.raises(ModelError, match=r"g_a.convs.0.weight of transform.conv .*\(0"):
        build("codec/latent", channels=8, transform=given)


def test_threads_that_come_while_parts_are_loaded_wait(monkeypatch):
    """Shipped weights are unpacked by several threads, the first to name quantizers."""
    known = {name: find(name) for name in names("weights/*")}
    there = {n: part for n, part in registry._ENTRIES.items() if n not in known}
    load = importlib.import_module

    def late(name: str) -> object:
        time.sleep(0.02)
        there.update(known)
        return load(name)

    monkeypatch.setattr(registry, "_ENTRIES", there)
    monkeypatch.setattr(registry, "_LOADED", registry._LOADED - {"weights"})
    monkeypatch.setattr(importlib, "import_module", late)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(find, 4 * ["weights/lattice"]))
    assert found == 4 * [known["weights/lattice"]]
