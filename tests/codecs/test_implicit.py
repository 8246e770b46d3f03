# SPDX-License-Identifier: Apache-2.0
"""The implicit family: signals become networks, networks become bytes, and back."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from polycodec.codecs import untrained, zoo
from polycodec.codecs.families import implicit
from polycodec.codecs.families.implicit import ImplicitCodec
from polycodec.codecs.fitting import fit as fitting
from polycodec.codecs.fitting.loss import ms_ssim, ssim
from polycodec.codecs.fitting.optim import Adan, rate_at
from polycodec.codecs.fitting.plan import Plan
from polycodec.errors import (
    BitstreamError,
    DigestMismatchError,
    InputError,
    ModelError,
    UsageError,
)
from polycodec.registry import build

NERV = {
    **{"name": "nerv", "strides": [4, 2], "stem": 16, "levels": 6},
    **{"expansion": 2, "least": 6, "base": 1.6},
}
BOOST = {
    **{"name": "hnerv-boost", "strides": [4, 2], "depths": [1, 1], "times": 4},
    **{"levels": 4, "least": 4, "features": 8, "embedding": 2},
}
FIT = {"lr": 0.01, "late_lr": 0.002, "lmbda": 0.001, "packed": False}


def clip(frames: int = 6, height: int = 22, width: int = 40) -> torch.Tensor:
    """A bright ball that flies over a dim ramp, (1, 3, T, H, W)."""
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    shown = []
    for k in range(frames):
        far = (x - 0.15 - 0.7 * k / (frames - 1)) ** 2 + (y - 0.5) ** 2
        ball = torch.exp(-far / 0.1)
        shown.append(torch.stack([ball, 0.3 * x + 0 * y, 0.8 * ball + 0.1]))
    return torch.stack(shown, dim=1)[None].clamp(0, 1)


def codec(network=NERV, **fit) -> ImplicitCodec:
    return ImplicitCodec(network=network, fit={**FIT, **fit}, bpp=(0.2, 8))


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(-10 * (x - y).square().mean().log10())


@pytest.fixture(scope="module")
def fitted():
    """A codec, a clip, and its bytes after 250 steps."""
    made = codec()
    return made, clip(), made.compress(clip(), 60, plan=Plan(steps=250))[0]


def test_a_fit_of_seconds_beats_the_mean_frame(fitted):
    made, x, data = fitted
    found = made.decompress([data])
    assert found.shape == x.shape
    mean = x.mean(dim=2, keepdim=True).expand_as(x)
    assert psnr(x, found) > psnr(x, mean) + 1
    target = made.bits_of(made.level_of(60), x.shape[2:]) / 8
    assert len(data) < 1.15 * target


def test_any_frame_decodes_alone(fitted):
    made, x, _ = fitted
    encoder = made.group_encoder(x.shape[3:], gop=4, plan=Plan(steps=3))
    frames = x[0].movedim(1, 0)
    chunks = [encoder.chunk(k, frames[4 * k : 4 * k + 4], 40) for k in range(2)]
    decoder = made.group_decoder(x.shape[3:], 4, 6, 40)
    whole = torch.cat(list(decoder.frames(0, chunks[0], range(4))))
    assert whole.shape == (4, 3, 22, 40)
    [alone] = decoder.frames(0, chunks[0], range(2, 3))
    assert torch.equal(alone[0], whole[2])
    assert len(list(decoder.frames(1, chunks[1], range(2)))) == 2
    with pytest.raises(BitstreamError):
        list(decoder.frames(1, chunks[0], range(2)))  # of another group
    for frames in (5, 7):  # as a header that was changed would say
        other = made.group_decoder(x.shape[3:], 4, frames, 40)
        with pytest.raises(BitstreamError):
            list(other.frames(1, chunks[1], range(1)))


def test_sizes_are_kept_to_the_byte():
    made = codec()
    data = made.compress(clip(), 60, plan=Plan(steps=30, bytes=420))[0]
    assert len(data) - made.signal.head_size <= 420
    assert made.decompress([data]).shape == clip().shape


def test_it_stops_with_what_it_has_and_goes_on(tmp_path):
    kept = tmp_path / "clip.fit"
    made, plan, told = codec(), Plan(steps=60, kept=kept), []

    def stop(report):
        told.append(report)
        if report.step == 50:  # in the second stage, which draws noise
            plan.stopped.set()

    plan.tell = stop
    fitting_told, fitting.TOLD = fitting.TOLD, 0.0
    try:
        first = made.decompress(made.compress(clip(), 60, plan=plan))
    finally:
        fitting.TOLD = fitting_told
    assert told[0].step == 1 and "dB" in str(told[0])
    assert kept.is_file() and "was stopped at step 50" in plan.notes[0]
    plan = Plan(steps=60, kept=kept, resume=True)
    second = made.decompress(made.compress(clip(), 60, plan=plan))
    assert "resumed at step 50" in plan.notes[0]
    assert not torch.equal(first, second)
    # Nothing is lost by it: the same as in one go.
    whole = made.compress(clip(), 60, plan=Plan(steps=60))
    assert torch.equal(made.decompress(whole), second)
    plan = Plan(steps=60, kept=kept, resume=True)
    with pytest.raises(InputError, match=r"another fit, another signal .* sum is"):
        made.compress(clip().flip(3) ** 2, 60, plan=plan)
    with pytest.raises(InputError, match="of another quality or size of file"):
        made.compress(clip(), 90, plan=plan)
    longer = Plan(steps=60, kept=kept, resume=True)
    made.compress(clip(), 60, plan=longer)
    assert longer.notes == ["resumed at step 60, 100%; its time is over, more goes on"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    made, kept = codec(), tmp_path / "clip.fit"
    made.compress(clip(), 60, plan=Plan(steps=4, kept=kept))
    whole = kept.read_bytes()
    for at in range(0, len(whole), len(whole) // 40):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"cannot resume .*delete it to begin"):
            made.compress(clip(), 60, plan=Plan(steps=8, kept=kept, resume=True))


@pytest.mark.parametrize(("seconds", "packed"), [(4.0, False), (40.0, True)])
def test_weights_are_packed_within_the_time_that_there_is(seconds, packed):
    """Of a clock by which every step takes 0.1 s, and packing some 5 s."""
    now, told = iter(range(10**6)), []
    plan = Plan(seconds=seconds, clock=lambda: next(now) / 10, tell=told.append)
    codec(packed=True).compress(clip(), 60, plan=plan)
    assert any(report.packing for report in told) is packed
    late = [note for note in plan.notes if "not packed, for want of time" in note]
    assert len(late) == (not packed)
    closing = 5 if packed else 0
    assert told[-1].step == pytest.approx(10 * (0.97 * seconds - closing), rel=0.2)


def test_a_fit_that_diverges_goes_back_and_says_so():
    made, plan = codec(lr=300.0), Plan(steps=60)
    try:
        x_hat = made.decompress(made.compress(clip(), 60, plan=plan))
    except ModelError as error:
        assert "diverges" in str(error) and "fit.lr" in str(error)
    else:
        assert bool(x_hat.isfinite().all())
    assert any("went back to step" in note for note in plan.notes)
    assert "at 0.5 times" in plan.notes[0]


@pytest.mark.parametrize(
    ("network", "fit"),
    [
        (BOOST, {"optimizer": "adan"}),
        (NERV, {"coding": "eight", "quantizing": 0.0}),
        (NERV, {"keep": 0.5, "coding": "eight"}),
        ({**NERV, "block": "scrb"}, {"loss": {"l1": 0.7, "ssim": 0.3}}),
        (BOOST, {"loss": {"l1": 42.0, "ms_ssim": 18.0, "fft": 1.0}, "lmbda": 0.05}),
    ],
    ids=["boost", "eight bits", "pruned", "nerv++", "its loss"],
)
def test_what_is_written_is_what_was_fitted(network, fit):
    """Also of networks so small that tensors have one value, whose range is zero."""
    made = codec(network, **fit)
    codes = made.encode_codes(clip(), made.level_of(1), plan=Plan(steps=12))
    coded = made.write(codes, 2)
    assert torch.equal(coded.codes, codes)
    assert torch.equal(made.read(coded.data, 2, (6, 22, 40)), codes)
    network, _ = made.opened(codes)
    weights = [p for p in network.sent().values() if p.ndim > 1]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert zeros >= 1 - fit.get("keep", 1.0) - 0.01


@pytest.mark.parametrize(
    ("signal", "x"),
    [
        ("image", clip()[:, :, 2]),
        ("speech", 0.5 * torch.sin(torch.arange(900) / 9)[None, None]),
    ],
)
def test_it_carries_images_and_sounds(signal, x):
    network = {"name": "coordinates", "depth": 2}
    made = ImplicitCodec(
        signal=signal, network=network, fit={**FIT, "lr": 0.003}, bpp=(1, 16)
    )
    x_hat = made.decompress(made.compress(x, 60, plan=Plan(steps=80)))
    assert x_hat.shape == x.shape
    assert psnr(x, x_hat) > psnr(x, x.mean().expand_as(x)) + 1


def test_hostile_sizes_are_refused_before_memory():
    made = codec()
    for size, width in (((6, 22, 40), 4000), ((1 << 20, 22, 40), 4)):
        with pytest.raises(BitstreamError, match="asks for"):
            made._network(size, width)
    assert made._network((6, 22, 40), 8).values > 0


def test_few_bytes_hold_few_weights(fitted, monkeypatch):
    """A header of 2^20 columns took 1.4 GB: weights that no such stream holds."""
    made, x, data = fitted
    head, stream = data[: made.signal.head_size], data[made.signal.head_size :]
    width = int(made.read([stream], 1, x.shape[2:], context=head)[0, 0, 3])
    size = 6, 22, 1 << 20
    network = made._network(size, abs(width))
    assert network.values > implicit.LEAST_LIMIT + 16 * len(stream)
    with pytest.raises(BitstreamError, match="cannot hold what its header says"):
        made.read([stream], 1, size, context=head)
    monkeypatch.setattr(implicit, "LEAST_LIMIT", 0)
    monkeypatch.setattr(implicit, "LEAST_BITS", 100.0)
    with pytest.raises(UsageError, match="ask for a smaller file"):
        made.compress(x, 60, plan=Plan(steps=2))


def test_codes_that_are_no_numbers_are_refused(fitted):
    made, x, _ = fitted
    codes = made.encode_codes(x, 1, plan=Plan(steps=1))
    for wrong in (None, codes * float("nan")):
        with pytest.raises(InputError, match="codes"):
            made.decode_codes(wrong, 1)


def test_damage_is_named(fitted):
    made, _, data = fitted
    for cut in (data[:40], data[:-40] + bytes(40)):
        with pytest.raises(BitstreamError):
            made.decompress([cut])


def test_models_without_weights_have_names_and_digests():
    made = zoo.load("video/nerv-small")
    assert (made.kind, made.family, made.ready) == ("video", "implicit", True)
    cards = {card["name"]: card for card in zoo.models()}
    for name in ("nerv", "nerv++", "hnerv", "hnerv-boost"):
        for ending in ("", "-small"):
            assert cards[f"video/{name}{ending}"]["modality"] == "video"
    digest = cards["video/nerv-small"]["digest"]
    assert made.digest.hex() == digest[:8]
    with pytest.raises(DigestMismatchError, match="video/nerv'"):
        zoo.load("video/nerv", digest=made.digest)


def test_shipped_configs_are_parsed_once(monkeypatch):
    before = untrained.cards()
    monkeypatch.setattr(untrained.yaml, "safe_load", None)
    untrained.cards()[0]["config"]["codec"].clear()
    assert untrained.cards() == before


def test_the_digest_is_of_what_decoding_depends_on():
    section = untrained.section_of(untrained.configs()["video/nerv-small"])
    other = {**section, "fit": {"epochs": 1}, "bpp": [1, 2]}
    assert untrained.digest_of(other) == untrained.digest_of(section)
    other["network"] = {**section["network"], "levels": 21}
    assert untrained.digest_of(other) != untrained.digest_of(section)


def test_adan_does_what_its_equations_say():
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = Adan([value], lr=0.1)
    grads = [torch.tensor([0.3, -1.0]), torch.tensor([0.5, 0.2])]
    for grad in grads:
        value.grad = grad.clone()
        optimizer.step()
    (g1, g2), change = grads, grads[1] - grads[0]
    expected = torch.tensor([1.0, -2.0])
    expected -= 0.1 * g1 / (g1.abs() + 1e-8)
    m = (0.98 * 0.02 * g1 + 0.02 * g2) / (1 - 0.98**2)
    v = 0.08 * change / (1 - 0.92**2)
    n = (0.99 * 0.01 * g1**2 + 0.01 * (g2 + 0.92 * change) ** 2) / (1 - 0.99**2)
    expected -= 0.1 * (m + 0.92 * v) / (n.sqrt() + 1e-8)
    assert torch.allclose(value.detach(), expected, atol=1e-6)


def test_rates_warm_up_and_fall():
    assert rate_at(0, 0.2, 0.1) == pytest.approx(0.1)
    assert rate_at(0.2, 0.2, 0.1) == pytest.approx(1)
    assert rate_at(1, 0.2, 0.1) == pytest.approx(0)
    assert rate_at(0, 0.0, 0.1) == pytest.approx(1)


def test_similarity_is_that_of_torchmetrics():
    image = pytest.importorskip("torchmetrics.functional.image")
    g = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 60, 50, generator=g)
    y = (x + 0.1 * torch.rand(1, 3, 60, 50, generator=g)).clamp(0, 1)
    theirs = image.structural_similarity_index_measure(x, y, data_range=1.0)
    # Theirs counts places near the edge, whose windows it fills by reflection.
    assert 1 - float(ssim(x, y)) == pytest.approx(float(theirs), abs=2e-3)
    assert float(ms_ssim(x, x)) == pytest.approx(0, abs=1e-6)
    assert 0 < float(ms_ssim(x, y)) < float(ms_ssim(x, 1 - x))
    for thin in (x[..., :1], x[..., :1, :1]):
        assert float(ms_ssim(thin, thin)) == pytest.approx(0, abs=1e-6)


def test_options_that_cannot_be_are_named():
    with pytest.raises(ModelError, match="video"):
        ImplicitCodec(signal="image", network=NERV)
    with pytest.raises(ModelError, match="cem, eight, trellis"):
        ImplicitCodec(network=NERV, fit={"coding": "seven"})
    with pytest.raises(ModelError, match="expected shares"):
        ImplicitCodec(network=NERV, fit={"keep": 0})
    with pytest.raises(ModelError, match="unexpected keyword argument 'hight'"):
        build("codec/implicit", network={"name": "coordinates", "hight": 3})
    for wrong in ({"seconds": 0.0}, {"steps": -1}, {"bytes": 0}):
        with pytest.raises(UsageError, match="expected more than 0"):
            Plan(**wrong)
    fields = {f.name for f in dataclasses.fields(Plan)}
    assert {"seconds", "steps", "bytes", "kept", "resume"} <= fields


@pytest.mark.parametrize("text", ["1: 2", "network: {width: 2020-01-01}"])
def test_a_config_that_json_cannot_say_is_named(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(f"codec: {{name: implicit, {text}}}")
    with pytest.raises(ModelError, match="what JSON cannot say"):
        untrained.build_codec(path, "video/mine")
