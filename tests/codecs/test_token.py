# SPDX-License-Identifier: Apache-2.0
"""The token family: codes do not depend on chunks, contexts are what they say."""

from __future__ import annotations

import pytest
import torch

from polycodec.errors import InputError, ModelError, UsageError
from polycodec.registry import build

SMALL = {"name": "spectral", "widths": [16, 16], "depths": [1, 2]}


def make(**transform):
    torch.manual_seed(0)
    options = {**SMALL, **transform}
    return build("codec/token", channels=8, transform=options, block=4).eval()


@pytest.fixture(params=[False, True], ids=["centred", "causal"])
def codec(request):
    return make(causal=request.param)


def spread(changed: torch.Tensor, at: int) -> tuple[int, int]:
    """First and last changed frame, from frame ``at``."""
    frames = changed.nonzero().flatten()
    return int(frames.min()) - at, int(frames.max()) - at


@pytest.mark.parametrize("piece", [77, 320, 1000, 16000])
def test_codes_do_not_depend_on_pieces(codec, piece):
    x = torch.randn(1, 1, 12345) * 0.2
    whole = codec.encode_codes(x, 3)[0]
    stream, parts = codec.signal.analysis(codec, 3), []
    padded = codec.padded(x)[0]
    for start in range(0, padded.shape[1], piece):
        parts += stream.push(padded[:, start : start + piece])
    assert torch.equal(torch.cat([*parts, *stream.flush()], dim=1), whole)
    assert whole.shape == (3, codec.grid((12345,))[0])


def test_pictures_of_a_batch_are_coded_as_they_are_alone(monkeypatch):
    torch.manual_seed(0)
    parts = {
        "transform": {"name": "attention", "depth": 1},
        "quantizer": {"name": "cascade", "codes": [16, 8], "groups": 2, "depth": 1},
        "entropy": {"name": "tokens-conditional"},
    }
    codec = build("codec/token", signal="image", channels=8, **parts).eval()
    x, seen = torch.rand(3, 3, 64, 48), []
    analyse = codec.transform.analyse

    def watched(x, level):
        seen.append(len(x))
        return analyse(x, level)

    monkeypatch.setattr(codec.transform, "analyse", watched)
    codes = codec.encode_codes(x, 1)
    assert seen == [1, 1, 1]  # sums of a batch are rounded otherwise
    alone = torch.cat([codec.encode_codes(one, 1) for one in x.split(1)])
    assert torch.equal(codes, alone)


def test_samples_do_not_depend_on_pieces(codec):
    codes = torch.randint(0, 256, (1, 8, 30))
    whole = codec.decode_codes(codes, codec.levels)[0]
    stream, parts = codec.signal.synthesis(codec, codec.levels), []
    for start in range(0, 30, 7):
        parts += stream.push(codes[0, :, start : start + 7])
    assert torch.equal(torch.cat([*parts, *stream.flush()], dim=1), whole)


@torch.no_grad()
def test_declared_contexts_are_the_true_ones(codec):
    t, hop, at = codec.transform, codec.stride, 30
    x = torch.randn(1, 1, 60 * hop)
    z = t.g_a(x)
    x[..., at * hop : (at + 1) * hop] += 1
    first, last = spread((t.g_a(x) - z).abs().amax((0, 1)) > 0, at)
    assert -first <= t.contexts()[0][1] and last <= t.contexts()[0][0]
    y = t.g_s(z)
    z[..., at] += 1
    moved = (t.g_s(z) - y).abs().view(-1, hop).amax(1) > 0
    first, last = spread(moved, at)
    assert -first <= t.contexts()[1][1] and last <= t.contexts()[1][0]
    assert t.contexts()[1][0] <= last + 2  # and not much more than needed


def test_causal_analysis_looks_at_no_sample_ahead():
    assert make(causal=True).transform.contexts()[0][1] == 0


@torch.no_grad()
def test_windows_overlap_to_one():
    t = make().transform
    x = torch.randn(2, 1, 3200)
    padded = torch.nn.functional.pad(x.squeeze(1), t.reach)
    frames = padded.unfold(-1, 400, 160) * t.window
    assert torch.allclose(t._overlap_add(frames), x.squeeze(1), atol=1e-5)


def test_gradients_reach_every_weight():
    codec = make().train()
    out = codec(torch.randn(2, 1, 3200), torch.tensor([8, 2]))
    (out.x_hat.square().mean() + out.loss.mean()).backward()
    missing = [n for n, p in codec.named_parameters() if p.grad is None]
    assert not missing
    assert out.codes.shape == (2, 8, 10)
    assert (out.codes[1, 2:] == -1).all() and (out.codes[0] >= 0).all()


def test_bad_input_is_named(codec):
    with pytest.raises(InputError, match="NaN"):
        codec.encode_codes(torch.full((1, 1, 400), torch.nan), codec.levels)
    with pytest.raises(InputError, match=r"0\.\.255"):
        codec.decode_codes(torch.full((1, 2, 5), 256), codec.levels)
    with pytest.raises(UsageError, match="1 to 8"):
        codec.encode_codes(torch.zeros(1, 1, 400), 9)
    with pytest.raises(ModelError, match="no tables"):
        codec.compress(torch.zeros(1, 1, 400))
    with pytest.raises(ModelError, match="channels"):
        build("codec/token", channels=8, transform={**SMALL, "channels": 9})


def test_residual_levels_refine():
    torch.manual_seed(0)
    q = build("quantizer/residual", channels=4, levels=3, codes=[16, 7, 5])
    z = torch.randn(2, 4, 6, 5)  # an image's latents
    q.initialise(torch.randn(2000, 4))
    errors = [
        float((q.decode(q.encode(z, level)) - z).square().mean()) for level in (1, 2, 3)
    ]
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.6 * errors[0]
    q.train()
    before = q.books[0].vectors.clone()
    assert q(z).codes.shape == (2, 3, 6, 5)
    assert not torch.equal(before, q.books[0].vectors)
