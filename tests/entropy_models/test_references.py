# SPDX-License-Identifier: Apache-2.0
"""References under the sliced model: what they see, and equal bits in every way.

    later latents never change an earlier parameter; earlier ones do change later ones
    threads, batches of 8, channels_last, no oneDNN: the same means and indexes

Models are small, shaken and frozen; latents are random.
"""

from __future__ import annotations

import contextlib
import functools
import math

import pytest
import torch
from tiny_parts import shaken

from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder, RateEstimator
from polycodec.entropy_models.exact.carrier import without_onednn
from polycodec.entropy_models.exact.layer import freeze, observe
from polycodec.entropy_models.exact.positions import Positions
from polycodec.entropy_models.references.adaptive import DeformableAttention
from polycodec.errors import ModelError, UnknownNameError
from polycodec.registry import build, find, names

SMALL = {"width": 8}
CASES = {
    "none": [],
    "near": [{"name": "near", **SMALL}],
    "channels": [{"name": "channels", "widths": [8, 8]}],
    "checkerboard": [{"name": "checkerboard", **SMALL}],
    "local": [{"name": "local", **SMALL}],
    "rotary": [{"name": "local", "rotary": True, "heads": 1, "window": 3, **SMALL}],
    "inter": [{"name": "inter", "inner": 8, **SMALL}],
    "intra": [{"name": "intra", "inner": 8, **SMALL}],
    "guided": [{"name": "guided", "inner": 8, **SMALL}],
    "reweighted": [
        {"name": name, "inner": 8, "reweight": True, **SMALL}
        for name in ("inter", "intra")
    ],
    "adaptive-channels": [{"name": "adaptive-channels", "inner": 8, **SMALL}],
    "adaptive-inter": [{"name": "adaptive-inter", "head": 4, "reads": 3, **SMALL}],
}
FUSED = {"rotary": True, "feedforward": 6, "reweight": True, **SMALL}
CASES["mlicv2"] = [
    {"name": "channels", "widths": [8, 8]},
    {"name": "local", "heads": 1, **FUSED},
    {"name": "inter", "inner": None, "heads": None, "fused": 6, **FUSED},
    {"name": "intra", "inner": 4, "heads": 1, **FUSED},
    {"name": "guided", "inner": 4, "guide": 6, "first": True, "gated": True, **SMALL},
]
LISTED = {section["name"] for case in CASES.values() for section in case}
NEW = {n.partition("/")[2] for n in names("reference/*")} - LISTED
CASES |= {name: [{"name": name}] for name in NEW}  # takes part without a line here
CASES["all"] = [section for case in CASES.values() for section in case]
CASES["context"] = [  # beside the kernels of that model
    {"name": "local", **SMALL},
    *({"name": name, "inner": 8, **SMALL} for name in ("inter", "intra")),
]
# The latents of a slice that its second half sees; whether the first half of the next
# slice sees any of it.
SEES = {
    "none": (False, False),
    "near": (True, True),
    "channels": (False, True),
    "checkerboard": (True, False),
    "local": (True, False),
    "rotary": (True, False),
    "inter": (False, True),
    "intra": (True, False),
    "guided": (True, False),
    "reweighted": (True, True),
    "adaptive-channels": (False, True),
    "adaptive-inter": (False, True),
    "mlicv2": (True, True),
    "all": (True, True),
    "context": (True, True),
}
every_case = pytest.mark.parametrize("case", CASES)
SIZE = (8, 6, 7)
SIZES = {"hyper": 8, "features": 8, "parameters": [12], "slices": [4, 8]}
MORE = {
    "mlicv2": {
        "residual": [6],
        "side": 4,
        "selective": 6,
        "synthesis": [8, 4, 8, 4, 8],
    }
}


def fresh(case: str):
    torch.manual_seed(0)
    options = {"references": CASES[case], **SIZES, **MORE.get(case, {})}
    if case == "context":
        hidden = options.pop("parameters")[0]
        options |= {"kernels": [3, 3], "hidden": hidden}
        return shaken(build("entropy/context", channels=12, **options))
    return shaken(build("entropy/sliced", channels=12, **options))


def latents(batch: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(batch, 12, *SIZE[1:], generator=generator)


@functools.cache
def model(case: str):
    made = fresh(case)
    with torch.no_grad():
        observe(made, True)
        made.code(RateEstimator(8, noise=False), latents(8, 5), SIZE)
        observe(made, False)
        made.update()
        certificates = freeze(made)
    assert all(c.holds for c in certificates)
    return made.requires_grad_(False)


class Tape(Coder):
    """Remembers the parameters of every pass; z is what it is told."""

    def __init__(self, z: torch.Tensor) -> None:
        self.z, self.passes = z, []

    def code(self, value, prior, shape):
        if not self.passes:
            self.passes.append((self.z,))
            return self.z
        indexes = prior.indexes(shape)
        self.passes.append((prior.offsets.clone(), indexes.clone()))
        return torch.round(value - prior.offsets) + prior.offsets


@torch.inference_mode()
def parameters(case: str, y: torch.Tensor) -> list[tuple]:
    z = torch.zeros(len(y), 8, -(-SIZE[1] // 4), -(-SIZE[2] // 4))
    tape = Tape(z + torch.arange(8.0).view(1, -1, 1, 1) - 4)
    model(case).code(tape, y, (len(y), *SIZE[1:]))
    return tape.passes


def equal(ours: list[tuple], theirs: list[tuple]) -> list[bool]:
    return [
        all(map(torch.equal, one, other))
        for one, other in zip(ours, theirs, strict=True)
    ]


@every_case
def test_parameters_see_what_is_decoded_and_nothing_else(case):
    y, base = latents(1), parameters(case, latents(1))
    assert len(base) == 5  # z, and two halves of two slices
    halves = [Positions.checkerboard(*SIZE[1:], half).mask for half in (0, 1)]
    coded = [(slice(0, 4), halves[0]), (slice(0, 4), halves[1])]
    coded += [(slice(4, 12), half) for half in halves]
    for k, (channels, mask) in enumerate(coded):
        changed = y.clone()
        changed[:, channels] += 9.0 * mask
        same = equal(base, parameters(case, changed))
        assert all(same[: k + 2]), (case, k)
        if case in NEW:
            return  # what it may see is checked above; what it must, only it can say
        within, after = SEES[case]
        if k == 0:
            assert same[2] == (not within) or case in ("intra", "reweighted")
            assert same[3] == (not after)
        if k == 2:
            assert same[4] == (not within) or case == "guided"  # only slice 0's


@contextlib.contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@every_case
def test_every_way_of_computing_gives_the_same_parameters(case):
    y = latents(8)
    wanted = parameters(case, y)
    for way in (lambda: threads(1), lambda: threads(2), without_onednn):
        with way():
            assert all(equal(parameters(case, y), wanted))
    last = y.contiguous(memory_format=torch.channels_last)
    assert all(equal(parameters(case, last), wanted))
    for b in range(8):
        own = [tuple(part[b : b + 1] for part in one) for one in wanted]
        assert all(equal(parameters(case, y[b : b + 1]), own))


@every_case
@torch.inference_mode()
@pytest.mark.parametrize("size", [(6, 7), (1, 1), (1, 5), (2, 2), (9, 4)])
def test_bytes_give_the_latents_back(case, size):
    y = 4 * torch.randn(2, 12, *size, generator=torch.Generator().manual_seed(1))
    encoder = RangeEncoder(2, estimate=True)
    y_hat = model(case).code(encoder, y, (2, *size))
    data = encoder.finish()
    decoder = RangeDecoder(data)
    assert torch.equal(model(case).code(decoder, None, (2, *size)), y_hat)
    decoder.finish()
    if "selective" not in MORE.get(case, {}):
        assert float((y_hat - y).abs().max()) < 1.6
    for stream, bits in zip(data, encoder.estimated_bits, strict=True):
        assert 8 * len(stream) <= 1.006 * bits + 8 * 40


@every_case
def test_training_and_grids_agree(case):
    """What was trained in floats costs about what it costs in integers."""
    y, size = latents(4, 9), (4, *SIZE[1:])
    loose = fresh(case).eval()
    bits = []
    for one in (loose, model(case)):
        estimator = RateEstimator(4, noise=False)
        with torch.no_grad():
            one.code(estimator, y, size)
        bits.append(float(estimator.bits.sum()))
    assert bits[0] == pytest.approx(bits[1], rel=0.02)


@every_case
def test_gradients_reach_every_weight(case):
    made = fresh(case)
    estimator = RateEstimator(8)
    y_hat = made.train().code(estimator, latents(8), SIZE)
    penalty = made.penalty()
    loss = estimator.bits.sum() + y_hat.square().sum()
    (loss if penalty is None else loss + penalty).backward()
    still = [
        name
        for name, value in made.named_parameters()
        if value.grad is None or not value.grad.any() or not value.grad.isfinite().all()
    ]
    assert not still


def test_a_reference_that_has_nothing_to_look_at_is_left_out():
    for half, wanted in enumerate(
        [{"near"}, {"near", "checkerboard", "local", "guided"}]
    ):
        applied = {n for n in LISTED if find(f"reference/{n}").applies(0, half)}
        assert applied == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slices": [4, 4]}, "8"),
        ({"passes": 3}, "passes"),
        ({"references": [{"name": "local", "heads": 3}]}, "3 heads of 4"),
        ({"references": [{"name": "inter", "inner": 9}]}, "2 heads of 9"),
        ({"references": [{"name": "adaptive-inter"}]}, "heads of 32 of 4"),
        ({"references": [{"window": 3}]}, "a reference is .*'window': 3.*NAME"),
        ({"references": [3]}, "a reference is 3; expected a part's name"),
        ({"references": "local"}, "references is 'local'; expected a list"),
        ({"references": [{"name": "local", "before": 3}]}, "is given before, which"),
        ({"prior": {"components": 3}}, "a prior is .*; expected a part's name"),
        ({"prior": {"name": "mixture", "components": 0}}, "components is 0; .* 1 to 4"),
        ({"prior": {"name": "mixture", "components": 5}}, "components is 5; .* 1 to 4"),
        ({"prior": {"name": "mixture", "components": True}}, "components' .* is True"),
        ({"prior": {"name": "mixture", "least": 2}}, "least is 2; expected"),
        ({"prior": {"name": "mixture", "least": 0.0}}, "least' .* is 0.0; exp"),
    ],
)
def test_what_does_not_fit_is_named(options, words):
    with pytest.raises(ModelError, match=words):
        build("entropy/sliced", **{"channels": 12, "slices": [4, 8], **options})


def test_a_reference_may_be_a_name_alone():
    parts = ({"references": given} for given in (["near"], [{"name": "near"}]))
    one, two = (build("entropy/sliced", channels=4, slices=[4], **p) for p in parts)
    assert str(one) == str(two)


def test_reads_that_stay_where_they_are_are_plain_attention():
    torch.manual_seed(0)
    part = shaken(DeformableAttention(4, 8, head=4, reads=6, reach=4.0))
    x = latents(2)[:, :4, :6, :6]
    with torch.no_grad():
        moved = part(x)
        part.move.weight.zero_()
        part.move.bias.zero_()
        still = part(x)
        q, k, v = (
            t.flatten(2).unflatten(1, (2, 4)).mT
            for t in (part.q(x), *part.kv(x).chunk(2, dim=1))
        )
        score = (q @ k.mT) * 2.0**-1  # 1 / √4
        plain = torch.softmax(score * math.log(2), dim=-1) @ v
    assert torch.allclose(still, plain.mT.reshape(2, 8, 6, 6), atol=1e-4)
    assert not torch.allclose(moved, still, atol=1e-2)


def test_an_unknown_reference_is_named():
    with pytest.raises(UnknownNameError, match="near"):
        build("entropy/sliced", channels=4, slices=[4], references=[{"name": "naer"}])
