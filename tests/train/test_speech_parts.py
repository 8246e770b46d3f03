# SPDX-License-Identifier: Apache-2.0
"""What training on speech is made of: crops, spectra, losses, balance, adversaries."""

from __future__ import annotations

import math
import pathlib

import numpy as np
import pytest
import torch

pytest.importorskip("soundfile", reason="soundfile is not installed")

import soundfile

from polycodec.errors import InputError
from polycodec.registry import build
from polycodec.train.optim import Muon, matrices_of
from polycodec.train.sections import AdversarySection, LossSection
from polycodec.train.speech.data import SpeechCache, SpeechSource, speakers_of
from polycodec.train.speech.loss import Balancer, SpeechLoss
from polycodec.train.speech.spectra import _Planes, magnitude, mel_filters, spectrum
from polycodec.train.token import active_levels, builds_at

RATE = 8000


def folder_of(
    path: pathlib.Path, lengths: list[int], speakers: str = ""
) -> SpeechCache:
    """Recordings of constant, telling values; a table of speakers where given."""
    folder = path / "speech"
    folder.mkdir(parents=True)
    for i, length in enumerate(lengths):
        samples = np.full(length, (i + 1) * 1024, np.int16)
        soundfile.write(folder / f"{i}.wav", samples, RATE, subtype="PCM_16")
    if speakers:
        rows = [f"{i}.wav\t{s.strip()}" for i, s in enumerate(speakers)]
        (folder / "index.tsv").write_text("\n".join(["file\tspeaker", *rows]))
    return SpeechCache(folder, path / "cache", RATE)


def source(recordings: SpeechCache, **options) -> SpeechSource:
    settings = {"length": 100, "batch": 64, "seed": 1, "holdout": 2, **options}
    return SpeechSource(recordings, **settings)


def test_a_batch_depends_on_seed_rank_and_step_only(tmp_path):
    recordings = folder_of(tmp_path, [300] * 4)
    first, again = source(recordings), source(recordings)
    again.batch_at(0), again.batch_at(1)
    x = first.batch_at(5)[0]
    assert x.shape == (64, 1, 100) and torch.equal(x, again.batch_at(5)[0])
    assert not torch.equal(x, first.batch_at(6)[0])
    assert not torch.equal(x, first.batch_at(5, rank=1)[0])
    assert not torch.equal(x, source(recordings, seed=2).batch_at(5)[0])


def test_whole_speakers_are_held_out_and_unknown_ones_are_not(tmp_path):
    recordings = folder_of(tmp_path, [300] * 6, speakers="ab ba ")
    chosen = source(recordings)
    assert chosen.held_out == [0, 4]  # a, of a and b; the blank is nobody
    assert chosen.train == [1, 2, 3, 5]
    x, lengths = chosen.validation(400, 5)
    assert x.shape == (2, 1, 400) and lengths == [300, 300]
    assert x[1, 0, 299] == 5 / 32 and x[1, 0, 300] == 0
    trained = {round(abs(float(v)) * 32) for v in chosen.batch_at(0)[0][:, 0, 50]}
    assert trained == {2, 3, 4, 6}


def test_a_few_recordings_are_of_as_many_speakers_as_can_be(tmp_path):
    """Of 13 held-out speakers a card had measured one, who has many recordings."""
    recordings = folder_of(tmp_path, [300] * 9, speakers="aaaabbbcc")
    chosen = source(recordings)
    chosen.held_out = list(range(9))
    assert chosen.kept(2) == [0, 7] and chosen.kept(3) == [0, 4, 7]
    assert chosen.kept(7) == [0, 1, 2, 4, 5, 7, 8]
    assert chosen.kept(20) == chosen.held_out
    recordings.speakers = None
    assert chosen.kept(3) == [0, 4, 8]


def test_files_of_one_name_have_the_speakers_of_their_folders(tmp_path):
    """Another speaker of the same file name would be trained on and held out."""
    files = [tmp_path / "in" / who / "0.wav" for who in "ab"]
    table = "file\tspeaker\n{}a/0.wav\ta\n{}b/0.wav\tb\n"
    (tmp_path / "in").mkdir()
    (tmp_path / "in/index.tsv").write_text(table.format("", ""))
    assert speakers_of(tmp_path / "in", files) == ["a", "b"]
    (tmp_path / "in/index.tsv").rename(tmp_path / "index.tsv")
    with pytest.raises(InputError, match=r"several speakers of 0\.wav"):
        speakers_of(tmp_path / "in", files)
    (tmp_path / "index.tsv").write_text(table.format("in/", "in/"))
    assert speakers_of(tmp_path / "in", files) == ["a", "b"]


def test_crops_count_by_length_and_short_recordings_lie_in_silence(tmp_path):
    recordings = folder_of(tmp_path, [10, 40, 900])
    chosen = source(recordings, holdout=3, batch=2000)
    assert chosen.held_out == [0]
    x = chosen.batch_at(0)[0][:, 0]
    filled = (x != 0).sum(1)
    assert set(filled.tolist()) == {40, 100}
    long = ((x.abs().amax(1) * 32).round() == 3).float().mean()
    assert float(long) == pytest.approx(900 / 940, abs=0.03)
    starts = (x[filled == 40] != 0).float().argmax(1)
    assert starts.min() >= 0 and len(set(starts.tolist())) > 10


def test_gain_stays_in_its_range_and_never_clips(tmp_path):
    recordings = folder_of(tmp_path, [300] * 31)  # the last one at 0.97
    x = source(recordings, gain=(-6.0, 3.0), batch=500).batch_at(0)[0][:, 0, 0]
    assert 0.4 < float((x > 0).float().mean()) < 0.6  # either sign
    assert float(x.abs().max()) <= 1
    quiet = source(folder_of(tmp_path / "q", [300] * 2), gain=(-6.0, 3.0), batch=500)
    levels = 20 * (quiet.batch_at(0)[0][:, 0, 0].abs() * 16).log10()
    assert -6 <= float(levels.min()) < -5 and 2 < float(levels.max()) <= 3.01


def test_recordings_that_do_not_serve_are_named(tmp_path):
    with pytest.raises(InputError, match="no recordings below"):
        SpeechCache(tmp_path / "none", tmp_path, RATE)
    folder_of(tmp_path, [300])
    with pytest.raises(InputError, match=r"0\.wav has 8000 samples a second.*16000"):
        SpeechCache(tmp_path / "speech", tmp_path / "cache", 16000)
    (tmp_path / "speech/1.flac").write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"1\.flac"):
        SpeechCache(tmp_path / "speech", tmp_path / "cache", RATE)


def test_the_gradient_of_spectra_is_right():
    torch.manual_seed(0)
    x = torch.randn(1, 40, dtype=torch.float64, requires_grad=True)
    window = torch.hann_window(16, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: _Planes.apply(x, window, 4), (x,))
    planes = tuple(
        torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in "ab"
    )
    assert torch.autograd.gradcheck(lambda a, b: magnitude((a, b), 0.1), planes)


def test_spectra_have_one_scale_at_every_window():
    torch.manual_seed(0)
    x = 0.1 * torch.randn(1, 20000)
    for size in (128, 2048):
        power = magnitude(spectrum(x, size, 2), 0.0).square()[:, 2:-2].mean()
        assert float(power.sqrt()) == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize(
    ("bands", "size", "middle"), [(10, 128, 2067), (80, 1024, 1806), (80, 2048, 1806)]
)
def test_mel_bands_weigh_one_and_none_is_empty(bands, size, middle):
    filters = mel_filters(bands, size, 16000)
    assert filters.shape == (size // 2 + 1, bands)
    assert torch.allclose(filters.sum(0), torch.ones(bands), atol=1e-5)
    assert ((filters > 0).sum(0) >= 1).all()
    peak = filters.argmax(0).float() * 16000 / size
    assert (peak[1:] >= peak[:-1]).all()
    # 8 kHz are 2840 mel; band 5 of 10 is centred at 6/11 of them, 700 (10^… - 1) Hz.
    assert float(peak[bands // 2]) == pytest.approx(middle, abs=16000 / size)


def test_losses_are_zero_for_the_same_and_grow_with_noise():
    torch.manual_seed(0)
    section = LossSection(windows=(128, 512), mels=(10, 40), mel_linear=1.0)
    loss = SpeechLoss(section, 16000).eval()
    x = 0.1 * torch.randn(2, 1, 4000)
    assert set(loss.weights) == {"mel", "mel_linear", "spectrum", "wave"}
    assert all(float(v) == 0 for v in loss(x, x).values())
    small, large = (loss(x + a * torch.randn_like(x), x) for a in (0.01, 0.1))
    assert all(0 < small[name] < large[name] for name in loss.weights)
    louder = loss(10 * x, x)
    assert float(louder["mel"]) == pytest.approx(1, abs=0.02)  # one decade
    assert float(louder["wave"]) == pytest.approx(9, rel=1e-4)


def test_terms_of_no_weight_are_not_computed():
    section = LossSection(windows=(128,), mels=(10,), spectrum=0, wave=0)
    section = section.model_copy(update={"spectrum_windows": ()})
    x = torch.randn(1, 1, 2000)
    assert set(SpeechLoss(section, 16000)(x, -x)) == {"mel"}


def test_the_balancer_gives_every_term_its_share():
    torch.manual_seed(0)
    x = torch.randn(4, 1, 50, requires_grad=True)
    terms = {"small": 1e-4 * x.square().mean(), "large": 1e3 * (x - 3).abs().mean()}
    weights = {"small": 3.0, "large": 1.0}
    balancer = Balancer()
    gradient = balancer.gradient(terms, weights, x)
    parts = {}
    for name, value in terms.items():
        (g,) = torch.autograd.grad(value, [x], retain_graph=True)
        parts[name] = weights[name] / 4 * g / g.flatten(1).norm(dim=1).mean()
    assert torch.allclose(gradient, parts["small"] + parts["large"], atol=1e-7)
    again = Balancer()
    again.load_state(balancer.state())
    assert torch.equal(
        again.gradient(terms, weights, x), balancer.gradient(terms, weights, x)
    )


@pytest.mark.parametrize("kind", ["hinge", "least-squares"])
def test_discriminators_learn_and_give_the_codec_a_gradient(kind):
    lightning = pytest.importorskip("lightning.fabric", reason="extra 'train'")
    import contextlib

    from polycodec.train.adversary import Adversary
    from polycodec.train.speech.discriminators import Discriminators

    torch.manual_seed(0)
    section = AdversarySection(
        names=("stft", "period"),
        filters=4,
        windows=(256,),
        periods=(3,),
        widths=(4, 8),
        kind=kind,
        lr=2e-3,
    )
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    judges = Discriminators(section)
    adversary = Adversary(section, fabric, contextlib.nullcontext, judges)
    t = torch.arange(2000) / 8000
    x = torch.sin(2 * math.pi * 200 * t).repeat(4, 1, 1) * 0.3
    x_hat = (x + 0.2 * torch.randn_like(x)).requires_grad_()
    losses = [float(adversary.learn(x_hat, x)) for _ in range(25)]
    assert losses[-1] < 0.9 * losses[0] and x_hat.grad is None
    terms = adversary.terms(x_hat, x)
    sum(terms.values()).backward()
    assert float(x_hat.grad.abs().sum()) > 0 and terms["feature"] > 0
    assert all(p.grad is None for p in adversary.model.parameters())
    assert all(p.requires_grad for p in adversary.model.parameters())
    assert float(adversary.terms(x, x)["feature"]) == 0


def test_levels_vary_in_the_share_asked_for():
    torch.manual_seed(0)
    active = active_levels(4000, 4, 0.5)
    assert active.min() == 1 and active.max() == 4
    assert float((active < 4).float().mean()) == pytest.approx(0.375, abs=0.04)
    assert (active_levels(50, 4, 0.0) == 4).all()


def test_codebooks_are_built_where_stages_end():
    from polycodec.train.sections import StagesSection

    section = StagesSection(unquantized=3, rebuild=7)
    assert [s for s in range(20) if builds_at(section, s)] == [3, 7]
    assert [s for s in range(9) if builds_at(StagesSection(), s)] == [0]
    section = StagesSection(build=False, rebuild=7)
    assert not any(builds_at(section, s) for s in range(9))


def test_muon_moves_linear_layers_of_speech_and_the_same_of_images(tiny_codec):
    codec = build("codec/token", channels=64)
    matrices = {id(p) for p in matrices_of(codec)}
    names = {n for n, p in codec.named_parameters() if id(p) in matrices}
    assert names and all(n.endswith((".up.weight", ".down.weight")) for n in names)
    optimizer = Muon(codec.parameters(), matrices=matrices_of(codec))
    muon = next(g for g in optimizer.param_groups if g["muon"])["params"]
    assert matrices < {id(p) for p in muon}
    depthwise = {id(m.weight) for m in codec.modules() if getattr(m, "groups", 1) > 1}
    assert depthwise and not depthwise & {id(p) for p in muon}
    options = {k: v for k, v in tiny_codec().items() if k != "name"}
    assert matrices_of(build("codec/latent", **options)) == []
