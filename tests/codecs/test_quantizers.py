# SPDX-License-Identifier: Apache-2.0
"""Every codebook quantizer keeps one contract, and each its own promises."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_parts import TINY

from polycodec.codecs.quantizers.balanced import transport
from polycodec.codecs.quantizers.base import Quantizer
from polycodec.codecs.stored import load_codec
from polycodec.errors import InputError, ModelError, UnknownNameError
from polycodec.registry import build, find, names

CHANNELS = 12
# Those of cells of images have their tests in `test_cascade.py`.
QUANTIZERS = [
    n
    for n in names("quantizer/*")
    if not n.partition("/")[2].startswith("test-") and find(n).kind is None
]
OPTIONS = {n.partition("/")[2]: TINY.get(n, {}) for n in QUANTIZERS}


def latents(count: int = 1200) -> torch.Tensor:
    """Rows around 40 centres, some dimensions stronger than others."""
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(40, CHANNELS, generator=generator) * 2
    which = torch.randint(40, (count,), generator=generator)
    rows = centres[which] + 0.5 * torch.randn(count, CHANNELS, generator=generator)
    return rows * torch.linspace(2, 0.5, CHANNELS) + 0.3


def made(name: str, **more) -> Quantizer:
    """A quantizer that has seen latents."""
    torch.manual_seed(0)
    options = {**OPTIONS.get(name, {}), **more}
    quantizer = build(f"quantizer/{name}", channels=CHANNELS, **options)
    quantizer.initialise(latents())
    return quantizer.eval()


every = pytest.mark.parametrize("name", sorted(OPTIONS))


def sound(batch: int = 2, frames: int = 50) -> torch.Tensor:
    """z (B, D, F) from the same source as `latents`."""
    rows = latents(batch * frames).view(batch, frames, CHANNELS)
    return rows.transpose(1, 2).contiguous()


@every
@pytest.mark.parametrize("trailing", [(50,), (5, 10)])
def test_shapes_and_one_answer_three_ways(name: str, trailing: tuple[int, ...]) -> None:
    quantizer = made(name)
    z = sound().view(2, CHANNELS, *trailing)
    codes = quantizer.encode(z)
    assert codes.shape == (2, quantizer.levels, *trailing)
    assert codes.dtype == torch.int64
    z_hat = quantizer.decode(codes)
    assert z_hat.shape == z.shape and z_hat.dtype == torch.float32
    with torch.no_grad():
        seen = quantizer(z)
    assert seen.loss.shape == (2,)
    assert torch.equal(seen.codes, codes)
    assert torch.allclose(seen.z_hat, z_hat, atol=1e-5)
    flat = quantizer.encode(z.flatten(2))
    assert torch.equal(flat, codes.flatten(2))


@every
def test_fewer_levels_are_a_prefix_and_worse(name: str) -> None:
    quantizer, z = made(name), sound(1, 1000)
    codes = quantizer.encode(z)
    errors = []
    for levels in range(1, quantizer.levels + 1):
        assert torch.equal(quantizer.encode(z, levels), codes[:, :levels])
        errors.append(float((quantizer.decode(codes[:, :levels]) - z).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * float(z.var())


@every
def test_active_levels_of_each_item(name: str) -> None:
    quantizer, z = made(name), sound(2)
    with torch.no_grad():
        seen = quantizer(z, torch.tensor([1, quantizer.levels]))
    assert (seen.codes[0, 1:] == -1).all() and (seen.codes[0, 0] >= 0).all()
    assert (seen.codes[1] >= 0).all()
    assert torch.allclose(
        seen.z_hat[:1], quantizer.decode(seen.codes[:1, :1]), atol=1e-5
    )
    usage = quantizer.usage(seen.codes)
    assert len(usage["perplexity"]) == quantizer.levels
    assert all(
        1 <= p <= k for p, k in zip(usage["perplexity"], quantizer.sizes, strict=True)
    )


@every
def test_gradients_reach_the_encoder_and_parameters(name: str) -> None:
    quantizer = made(name).train()
    z = sound().requires_grad_()
    seen = quantizer(z)
    (seen.z_hat.square().sum() + seen.loss.sum()).backward()
    assert z.grad is not None and (z.grad.abs().sum((1, 2)) > 0).all()
    for key, parameter in quantizer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    assert bool(seen.loss.isfinite().all())


@every
def test_codes_outside_the_codebook_are_named(name: str) -> None:
    quantizer = made(name)
    codes = quantizer.encode(sound())
    for level in (0, quantizer.levels - 1):
        for bad in (-1, quantizer.sizes[level]):
            wrong = codes.clone()
            wrong[1, level, 7] = bad
            with pytest.raises(InputError, match=f"level {level} .*expected 0"):
                quantizer.decode(wrong)
    with pytest.raises(InputError, match="levels"):
        quantizer.decode(torch.cat([codes, codes[:, :1]], 1))


@every
def test_every_code_of_a_level_decodes(name: str) -> None:
    quantizer = made(name)
    size = quantizer.sizes[0]
    vectors = quantizer.decode(torch.arange(size).view(1, 1, size))[0].T
    assert len(torch.unique(vectors, dim=0)) == size


@every
def test_weights_make_the_same_codec_again(name: str) -> None:
    quantizer, z = made(name), sound()
    stored = {k: v.clone() for k, v in quantizer.state_dict().items()}
    found = quantizer.config_after_build()
    again = build(
        f"quantizer/{name}", channels=CHANNELS, **{**OPTIONS[name], **found}
    ).eval()
    assert again.sizes == quantizer.sizes  # before loading: what a codec is built with
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in stored.items()
    }
    again.load_state_dict(stored)
    assert torch.equal(again.encode(z), quantizer.encode(z))
    codes = quantizer.encode(z)
    assert torch.equal(again.decode(codes), quantizer.decode(codes))


@every
def test_initialising_is_reproducible(name: str) -> None:
    a, b = made(name), made(name)
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


@every
def test_training_lowers_the_error(name: str) -> None:
    """The latents move away; codebooks and projections follow them."""
    quantizer = made(name).train()
    z = sound(4, 100) + 1.5 * torch.randn(CHANNELS, 1, generator=torch.manual_seed(1))
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, 5e-3) if parameters else None
    errors = []
    for _ in range(30):
        seen = quantizer(z)
        error = (seen.z_hat - z).square().mean()
        errors.append(float(error.detach()))
        if optimizer:
            optimizer.zero_grad()
            (error + seen.loss.mean()).backward()
            optimizer.step()
    # Structural codes keep their meaning: only their vectors follow.
    assert errors[-1] < (0.98 if name == "structural" else 0.95) * errors[0]


def test_structural_scores_frames_as_insertions_into_the_graph() -> None:
    book = made("structural").books[0]
    rows = latents(300)
    weights, owners = book._links(rows)
    degree = book.graph[1].expand(300)  # frames weigh as much as a node does
    assert torch.allclose(weights.sum(1), degree, rtol=1e-4)
    scores, codes = book.scores(rows)
    assert torch.equal(codes, owners)
    chosen = book.nearest(rows)
    best = scores.masked_fill(codes != chosen[:, None], -torch.inf).amax(1)
    assert torch.equal(best, scores.amax(1))


def test_structural_codes_do_not_depend_on_the_batch() -> None:
    quantizer, z = made("structural"), sound(3, 64)
    whole = quantizer.encode(z)
    one = torch.cat([quantizer.encode(item[None]) for item in z])
    assert float((whole == one).double().mean()) > 0.999  # float sums may differ


def test_structural_frames_like_nothing_get_the_nearest_code() -> None:
    book = made("structural").books[0]
    rows = book.mean[None].clone()  # centred: the zero vector, no direction
    assert book.nearest(rows).item() == book.__class__.__mro__[1].nearest(book, rows)


def test_structural_assignments_differ_but_mostly_agree() -> None:
    quantizer, rows = made("structural"), latents(1200)
    book = quantizer.books[0]
    by_entropy = book.nearest(rows)
    book.assign = "nearest"
    by_distance = book.nearest(rows)
    assert 0.4 < float((by_entropy == by_distance).double().mean()) < 1
    apart = (rows[:, None] - book.vectors).square().sum(2)
    assert torch.equal(apart.argmin(1), by_distance)


def test_structural_levels_behind_one_another() -> None:
    quantizer = made("structural", se_levels=2)
    assert len(quantizer.sizes) == 4 and quantizer.sizes[2:] == (16, 9)
    assert min(quantizer.sizes[:2]) > 5
    assert len(quantizer.config_after_build()["found"]) == 2
    capped = made("structural", cap=7)
    assert capped.sizes[0] == 7


def test_structural_before_its_build_and_resumed() -> None:
    fresh = build("quantizer/structural", channels=CHANNELS, **OPTIONS["structural"])
    assert fresh.sizes == (1, 16, 9)
    assert (fresh.encode(sound())[:, 0] == 0).all()
    built = made("structural")
    fresh.load_state_dict(built.state_dict())  # a run that goes on
    assert fresh.sizes == built.sizes
    assert torch.equal(fresh.encode(sound()), built.encode(sound()))


def test_structural_vectors_survive_codes_nobody_chooses() -> None:
    quantizer = made("structural").train()
    book = quantizer.books[0]
    before = book.vectors.clone()
    z = sound(1, 1).expand(1, CHANNELS, 50)
    for _ in range(1500):
        book.follow(z[0].T, torch.zeros(50, dtype=torch.int64))
    assert torch.allclose(book.vectors[1:], before[1:], rtol=1e-3, atol=1e-4)
    assert torch.allclose(book.vectors[0], z[0, :, 0], atol=1e-3)


def test_structural_refuses_damaged_weights_and_options() -> None:
    built = made("structural")
    state = dict(built.state_dict())
    state["books.0.owners"] = state["books.0.owners"] + 1
    with pytest.raises(ModelError, match="anchors of level 0"):
        made("structural").load_state_dict(state)
    for found in ([[3]], [[3, 9], [3, 9]], [[0, 4]], [[9, 3]]):
        with pytest.raises(ModelError, match="found"):
            made("structural", found=found)
    with pytest.raises(InputError, match="assign"):
        made("structural", assign="neerest")
    with pytest.raises(UnknownNameError, match="assign"):
        build("quantizer/structural", channels=4, asign="se")


def test_finite_grid_is_complete_and_mixed_radix() -> None:
    stage = made("finite").stages[0]
    assert stage.size == 60 == math.prod([5, 3, 4])
    points = stage.point(torch.arange(60))
    assert torch.equal(stage.choose(points), torch.arange(60))
    wide = torch.randn(5000, 3, generator=torch.manual_seed(0)) * 2
    chosen = stage.choose(stage.bound(wide))
    assert chosen.min() == 0 and chosen.max() == 59
    assert len(chosen.unique()) == 60
    with pytest.raises(InputError, match="radix"):
        build("quantizer/finite", channels=4, radix=[8, 2])


def test_factorized_looks_up_directions() -> None:
    stage = made("factorized").stages[0]
    y = stage.vectors.detach() * torch.linspace(0.1, 9, 16)[:, None]
    unit = torch.nn.functional.normalize(stage.vectors.detach(), dim=1)
    assert torch.equal(stage.choose(y), (unit @ unit.T).argmax(1))


def test_balanced_rows_are_spread_over_all_points() -> None:
    stage = made("balanced").stages[0]
    crowd = torch.randn(400, 4, generator=torch.manual_seed(0))
    crowd[:300] = 0.05 * crowd[:300] + stage.vectors[0].detach()  # three in four
    count = torch.bincount(stage.assign(crowd), minlength=16)
    near = torch.bincount(stage.choose(crowd), minlength=16)
    assert int(near.max()) >= 300 and int(near.min()) == 0
    assert int(count.max()) <= 100 and int(count.min()) > 0
    share = transport(torch.randn(40, 8, generator=torch.manual_seed(0)), 100).exp()
    assert torch.allclose(share.sum(0), torch.full((8,), 1 / 8), atol=1e-4)
    assert torch.allclose(share.sum(1), torch.full((40,), 1 / 40), atol=1e-6)


def test_latent_values_that_die_move_and_learn() -> None:
    quantizer = made("latent").train()
    with torch.no_grad():
        quantizer.values[2, 4] = 50.0  # out of reach of tanh
        quantizer.shares[2, 4] = 1.1e-3
    for _ in range(20):
        quantizer(sound())
    assert abs(float(quantizer.values[2, 4].detach())) <= 0.6


@every
def test_a_saved_token_codec_codes_as_before(name: str, tmp_path) -> None:
    """Export writes what the build found into the config; loading needs no more."""
    torch.manual_seed(0)
    options = {
        "channels": CHANNELS,
        "transform": {"name": "spectral", "widths": [16, 16], "depths": [1, 1]},
        "quantizer": {"name": name, **OPTIONS[name]},
    }
    codec = build("codec/token", **options).eval()
    x = torch.rand(1, 1, 30 * 16000, generator=torch.manual_seed(0)) - 0.5
    with torch.no_grad():
        z = codec.transform.g_a(codec.padded(x))[0].T
    codec.quantizer.initialise(z * torch.linspace(3, 1, len(z))[:, None])
    options["quantizer"] |= codec.quantizer.config_after_build()
    options["entropy"] = {"name": "tokens-static"}
    whole = build("codec/token", **options)
    whole.load_state_dict(codec.state_dict(), strict=False)
    whole.entropy.fit([codec.encode_codes(x, codec.levels)[0].numpy()])
    whole.entropy.update()
    whole.eval().save(tmp_path / "a.safetensors", {"name": "token", **options})
    first = load_codec(tmp_path / "a.safetensors")  # weights are rounded now
    first.save(tmp_path / "b.safetensors", {"name": "token", **options})
    again = load_codec(tmp_path / "b.safetensors")
    assert again.sizes == codec.sizes
    short = x[..., :16000]
    codes = first.encode_codes(short, first.levels)
    assert torch.equal(again.encode_codes(short, again.levels), codes)
    (data,) = again.write(codes, again.levels).data
    assert torch.equal(first.read([data], codes.shape[1], (50,)), codes)
