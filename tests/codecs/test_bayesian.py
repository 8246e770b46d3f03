# SPDX-License-Identifier: Apache-2.0
"""The Bayesian family: priors are learned, signals become samples, and come back."""

from __future__ import annotations

import math
import signal as signals

import pytest
import torch
from PIL import Image

import polycodec
from polycodec.codecs.families.bayesian import BayesianCodec
from polycodec.codecs.files.sets import pack
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.fitting.progressive import Progressive
from polycodec.codecs.stored import load_codec
from polycodec.codecs.transforms.reparametrized import joined, parted
from polycodec.entropy_models.models.samples import tiers_of
from polycodec.errors import BitstreamError, InputError, ModelError, UsageError
from polycodec.registry import build
from polycodec.train.bayesian import Ascent
from polycodec.train.sections import PriorsSection

NETWORK = {
    **{"hidden": 8, "depth": 2, "fourier": 8, "top": 4, "encoding": 4},
    **{"latents": 4, "features": [4, 4], "up": [2, 2, 2]},
}
IMAGE = {
    **{"name": "bayesian", "piece": [8, 8], "bpp": [2.0, 6.0], "bits": 12},
    **{"network": NETWORK, "fit": {"steps": 20, "late": 1, "least": 1}},
}


def pictures(count: int, size: tuple[int, ...] = (8, 8), seed: int = 0) -> torch.Tensor:
    """Smooth gradients and edges, (n, 3, H, W), alike but each its own."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    a, b, c = (torch.rand(count, 3, 1, 1, generator=draw) for _ in range(3))
    edge = (torch.sin(3 * (a - 0.5) * x + 3 * (b - 0.5) * y + 6 * c) > 0).float()
    return (0.2 + 0.3 * a + 0.2 * b * x + 0.2 * c * y + 0.15 * edge).clamp(0, 1)


def trained(config, x: torch.Tensor, steps: int = 120, every: int = 10, lr=0.1):
    """A codec whose priors are of posteriors of x, frozen."""
    torch.manual_seed(0)
    codec = build(f"codec/{config['name']}", **without_name(config))
    ascent = Ascent(
        codec, x, PriorsSection(lr=lr, every=every, factor=1.5, beta=(1e-4,))
    )
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)
    losses = []
    for step in range(steps * len(codec.bpp)):
        visit, rate = divmod(step, len(codec.bpp))
        if visit and visit % every == 0:
            ascent.update(rate, passes=1)
        loss, values = ascent.loss(rate, torch.arange(len(x)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(values["psnr"]))
    codec.freeze(lambda codec: None)
    return codec, losses


def without_name(config):
    return {k: v for k, v in config.items() if k != "name"}


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(-10 * (x - y).square().mean().log10())


@pytest.fixture(scope="module")
def prior():
    return trained(IMAGE, pictures(16))


def test_beta_follows_by_passes_and_no_faster_than_posteriors():
    codec = build(f"codec/{IMAGE['name']}", **without_name(IMAGE))
    section = PriorsSection(factor=1.5, beta=(1e-4,))
    ascent = Ascent(codec, pictures(4), section)  # with next to no bits

    def after(share: float, passes: float) -> float:
        codec.betas.fill_(1e-4)
        ascent.slow(share)
        ascent.update(0, passes=passes)
        return float(codec.betas[0]) / 1e-4

    assert after(1.0, 0.0) == after(0.0, 3.0) == pytest.approx(1)
    assert after(1.0, 2.0) == pytest.approx(1.5**-2)
    assert after(0.5, 2.0) == pytest.approx(1.5**-1)


def test_the_published_sizes():
    """Counts of the paper's appendix, and of its released code."""
    published = {"hidden": 32, "depth": 3, "top": 1024, "latents": 128}
    published |= {"features": [64, 64], "encoding": 16}
    sizes = {
        ("image", (64, 64), 3): (16, (4, 2, 2), 3267, 2048),
        ("image", (32, 32), 3): (16, (4, 2, 2), 3267, 512),
        ("speech", (800,), 1): (16, (4, 2, 2), 3201, 6400),
        ("video", (24, 16, 16), 3): (18, ((6, 4, 4), 2, 2), 3331, 128),
    }
    for (signal, piece, _), (fourier, up, weights, values) in sizes.items():
        network = {**published, "fourier": fourier, "up": up}
        codec = BayesianCodec(signal=signal, piece=piece, bpp=[1], network=network)
        own = codec.network(0)
        assert (own.weights, own.values) == (weights, values)
        assert own.bands.shape[1] == fourier
        if signal == "image":
            assert sum(p.numel() for p in own.phi.parameters()) == 251_024
            assert sum(m.numel() for m in own.maps) == 3 * 1056**2 + 99**2


def test_the_published_tiers():
    kodak = tiers_of((8, 12), (4, 4), 3267, 2048)
    assert [(t.rows, t.numbers) for t in kodak] == [(96, 5315), (6, 3267), (1, 3267)]
    audio, video = tiers_of((60,), (4,), 1, 0), tiers_of((1, 8, 8), (1, 4, 4), 1, 0)
    assert [t.rows for t in audio] == [60, 15, 1]
    assert [t.rows for t in video] == [64, 4, 1]
    assert kodak[1].of.view(8, 12)[3:5, 3:5].tolist() == [[0, 1], [3, 4]]
    assert tiers_of((5, 3), (4, 4), 1, 0)[1].rows == 2  # the last ones are smaller


def test_numbers_are_moved_among_pieces_and_back():
    tier = tiers_of((4, 5), None, 30, 0)[0]
    table = torch.rand(2, 20, 30)
    moved = tier.moved(table)
    assert torch.equal(tier.back(moved), table)
    assert torch.equal(moved.sort(dim=1).values, table.sort(dim=1).values)
    places = {tuple(tier.places[:, d].tolist()) for d in range(30)}
    assert len(places) == 30
    # Files depend on every place: computed when they were new.
    assert tier.places[:3, :4].tolist() == PLACES


PLACES = [[1, 2, 9, 0], [8, 8, 11, 14], [10, 6, 8, 12]]


@pytest.mark.parametrize("piece", [(4,), (4, 6), (2, 3, 4)])
def test_pieces_are_joined_as_they_lie(piece):
    counts = (2, 3, 1)[: len(piece)]
    sizes = [n * p for n, p in zip(counts, piece, strict=True)]
    x = torch.rand(2, 3, *sizes)
    pieces = parted(x, counts)
    assert pieces.shape == (2, math.prod(counts), 3, *piece)
    assert torch.equal(joined(pieces, counts), x)
    first = x[(..., *(slice(n) for n in piece))]
    assert torch.equal(pieces[:, 0], first)


def test_priors_learn_and_keep_to_the_rate(prior):
    codec, losses = prior
    assert losses[-1] > losses[-2] + 1 > losses[0] + 10
    for rate, wanted in enumerate(codec.bpp):
        costs = float(codec.entropy.free(rate)["piece"].costs.sum()) / 64
        assert 0.4 * wanted < costs < 1.6 * wanted


def test_pictures_come_back_and_bits_are_known_before(prior, tmp_path):
    codec, _ = prior
    x = pictures(3, seed=7)
    mean = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
    found = {}
    for quality, level in ((0, 1), (100, 2)):
        data = codec.compress(x, quality)
        blocks = len(codec.entropy.tables[f"{level - 1}-piece"].blocks)
        head = codec.signal.head_size + 4
        assert {len(item) for item in data} == {head + -(-12 * blocks // 8)}
        back = codec.decompress(data)
        found[level] = psnr(x, back)
        alone = codec.decompress(data[1:2])
        assert (alone - back[1:2]).abs().max() < 1e-5
    assert found[2] > found[1] > psnr(x, mean) + 1
    codec.save(tmp_path / "a.safetensors", IMAGE)
    whole = load_codec(tmp_path / "a.safetensors")
    assert torch.allclose(whole.decompress(data), back, atol=1e-3)
    codes = whole.encode_codes(x[:1], 2)
    again = load_codec(tmp_path / "a.safetensors").write(codes, 2)
    assert whole.read(again.data, 2, (8, 8)).equal(codes)


@pytest.mark.parametrize("size", [(1, 1), (13, 20)])
def test_other_sizes_are_patched(prior, size):
    codec, _ = prior
    x = pictures(2, size, seed=3).expand(2, 3, *size)
    data = codec.compress(x, 100, plan=Plan(steps=60))
    blocks = len(codec.entropy.tables["1-piece"].blocks)
    pieces = math.prod(codec.counts(size))
    assert len(data[0]) == codec.signal.head_size + 4 + -(-12 * blocks * pieces // 8)
    back = codec.decompress(data)
    assert back.shape == x.shape
    assert psnr(x, back) > psnr(x, torch.full_like(x, 0.5))


def test_a_picture_is_fitted_beside_others_as_it_is_alone(prior):
    codec, _ = prior
    x = pictures(3, seed=7)
    each = [codec.compress(one, 50, plan=Plan(steps=20))[0] for one in x]
    assert codec.compress(x, 50, plan=Plan(steps=20)) == each


def test_ctrl_c_ends_it_and_leaves_no_noise(prior, monkeypatch):
    codec, _ = prior
    advance = Progressive.advance

    def interrupted(self):
        advance(self)
        if self.step == 2:
            signals.raise_signal(signals.SIGINT)

    monkeypatch.setattr(Progressive, "advance", interrupted)
    before = signals.signal(signals.SIGINT, signals.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            codec.compress(pictures(2), 0)
    finally:
        signals.signal(signals.SIGINT, before)


def test_a_search_fits_each_level_once(prior, monkeypatch, tmp_path):
    prior[0].save(tmp_path / "a.safetensors", IMAGE)
    codec, run, fits = load_codec(tmp_path / "a.safetensors"), Progressive.run, []

    def counted(self):
        fits.append(self.rate)
        return run(self)

    monkeypatch.setattr(Progressive, "run", counted)
    pixels = (255 * pictures(1)[0]).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    sizes = [
        polycodec.encode(
            tmp_path / "a.png", tmp_path / f"{q}.plc", codec=codec, quality=q, effort=2
        ).bytes
        for q in (0, 100)
    ]
    fits.clear()
    found = polycodec.encode(
        *(tmp_path / "a.png", tmp_path / "b.plc"),
        **{"codec": codec, "effort": 2, "target_size": sizes[1] - 2},
    )
    assert sorted(fits) == [0, 1] and found.bytes <= sizes[0] + 1
    assert polycodec.decode(tmp_path / "b.plc", tmp_path / "b.png", codec=codec)


def test_a_set_that_cannot_be_costs_no_fit(prior, monkeypatch, tmp_path):
    prior[0].save(tmp_path / "a.safetensors", IMAGE)
    codec, out = load_codec(tmp_path / "a.safetensors"), tmp_path / "a.plc"
    folder = tmp_path / "icons"
    folder.mkdir()
    for name, side in (("a", 8), ("large", 2049)):
        Image.new("RGB", (side, side)).save(folder / f"{name}.png")
    monkeypatch.setattr(pack, "BATCH", 1)
    with monkeypatch.context() as m:
        m.setattr(Progressive, "run", lambda self: pytest.fail("it was fitted"))
        with pytest.raises(InputError, match=r"^large\.png: .*for small ones"):
            polycodec.pack(folder, out, codec=codec)
    found = polycodec.pack(folder, out, codec=codec, effort=2, keep_going=True)
    assert found.members == 1 and list(found.failed) == ["large.png"]


TIERS = {
    "image": {"piece": [4, 4], "group": [2, 2]},
    "speech": {"piece": [16], "group": [4]},
    "video": {"piece": [2, 4, 4], "group": [1, 2, 2]},
}
SIZES = {"image": (12, 12), "speech": (96,), "video": (4, 8, 8)}


@pytest.mark.parametrize("kind", TIERS)
def test_tiers_of_images_sounds_and_clips(kind):
    axes = len(SIZES[kind])
    network = {**NETWORK, "fourier": 4 * axes, "up": [2, [1] * axes, [1] * axes]}
    config = {**IMAGE, **TIERS[kind], "signal": kind, "bpp": [6.0], "network": network}
    lines = [torch.linspace(-2, 2, n) for n in SIZES[kind]]
    place = torch.stack(torch.meshgrid(*lines, indexing="ij")).sum(0)
    turn = torch.linspace(0, 6, 8).view(8, *[1] * axes)
    channels = 1 if kind == "speech" else 3
    x = (0.5 + 0.4 * torch.sin(place + turn))[:, None].repeat(1, channels, *[1] * axes)
    # At 0.1 whether a clip is learned depends on the order of sums.
    much = {"steps": 120, "lr": 0.03} if kind == "video" else {"steps": 40}
    codec, losses = trained(config, x, **much)
    assert losses[-1] > losses[0] + 5
    tiers = codec.tiers(codec.counts(SIZES[kind]))
    assert [tier.rows for tier in tiers] == ROWS[kind]
    size = [n - 1 for n in SIZES[kind]]
    part = x[(slice(3), slice(None), *map(slice, size))]
    data = codec.compress(part, 50)
    rows = [t.rows * len(codec.entropy.prior(0, t).blocks) for t in tiers]
    stream = sum(-(-12 * count // 8) for count in rows) + 4
    assert {len(item) - codec.signal.head_size for item in data} == {stream}
    back = codec.decompress(data)
    assert back.shape == part.shape
    assert psnr(part, back) > psnr(part, part.mean().expand_as(part)) + 3
    with pytest.raises(BitstreamError):
        codec.decompress(data[0][:-1])


ROWS = {"image": [9, 4, 1], "speech": [6, 2, 1], "video": [8, 2, 1]}


def test_what_is_refused(prior):
    codec, _ = prior
    with pytest.raises(InputError, match="it is for small ones"):
        codec.counts((4096, 4096))
    data = codec.compress(pictures(1), 0, plan=Plan(steps=4))[0]
    for wrong in (data[:-1], data + b"\0", data[:20]):
        with pytest.raises(BitstreamError):
            codec.decompress(wrong)
    for at in range(10, len(data)):  # behind the sizes and the quality
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(bad))
    with pytest.raises(InputError, match="numbers; expected"):
        codec.write(torch.zeros(1, 1, 9), 1)
    with pytest.raises(UsageError, match="level"):
        codec.encode_codes(pictures(1), 7)
    with pytest.raises(ModelError, match="never fitted"):
        build("codec/bayesian", **without_name(IMAGE)).freeze(lambda codec: None)
    with pytest.raises(ModelError, match="upsampled"):
        build("codec/bayesian", piece=[10, 8], network=NETWORK)
    with pytest.raises(ModelError, match="expected 2 sizes"):
        build("codec/bayesian", piece=[8], network=NETWORK)
