# SPDX-License-Identifier: Apache-2.0
"""The latent family on speech: integers of any cut, exact bytes, files, bad input."""

from __future__ import annotations

import collections
import io
import random

import numpy as np
import pytest
import torch

from polycodec.codecs.families.rates import LIMIT
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.coders import RangeEncoder, RateEstimator
from polycodec.entropy_models.exact.carrier import without_onednn
from polycodec.entropy_models.priors.shifted import (
    PLACES,
    REACH,
    SCALES,
    STEP,
    Shifted,
    Whole,
    place,
    shifted_tables,
    sigma_of,
)
from polycodec.entropy_models.priors.statistics import TableCounter
from polycodec.errors import CodecError, InputError, ModelError, UsageError
from polycodec.registry import build

CONFIG = {
    "name": "latent-speech",
    "channels": 8,
    "levels": 4,
    "block": 4,
    "transform": {"name": "spectral", "widths": [16, 16], "depths": [1, 1]},
    "entropy": {"groups": 3, "frames": 3, "hidden": 24, "width": 16},
}


def make():
    """A small codec whose weights are random, contexts included; not frozen."""
    torch.manual_seed(0)
    options = {k: v for k, v in CONFIG.items() if k != "name"}
    codec = build("codec/latent-speech", **options)
    x = signal(3)
    with torch.no_grad():
        codec.initialise_steps(codec.transform.g_a(x).transpose(1, 2).flatten(0, 1))
        for layer in codec.entropy.out:
            layer.weight.normal_(0, 0.2)
    return codec


def signal(count: int, samples: int = 9600):
    """Swelling noise (count, 1, samples)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 1, samples, generator=generator)
    return 0.2 * x * torch.linspace(0, 1, samples)


@pytest.fixture(scope="module")
def codec():
    made = make()

    def calibrate(codec):
        for levels in range(1, 5):
            codec(signal(3), torch.full((3,), levels))

    with torch.no_grad():
        assert all(c.holds for c in made.freeze(calibrate))
    made.name, made.digest = "speech/test", b"test"
    return made


@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("piece", [77, 320, 5000])
def test_codes_do_not_depend_on_pieces(codec, piece, levels):
    x = signal(1, 6543)
    whole = codec.encode_codes(x, levels)[0]
    assert whole.shape == (8, 21) and whole.unique().numel() > 2
    stream, parts = codec.signal.analysis(codec, levels), []
    padded = codec.padded(x)[0]
    for start in range(0, padded.shape[1], piece):
        parts += stream.push(padded[:, start : start + piece])
    assert torch.equal(torch.cat([*parts, *stream.flush()], dim=1), whole)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_codes_of_any_rate_follow_from_what_is_kept(codec, levels):
    x = codec.padded(signal(1))[0]
    stream = codec.signal.analysis(codec)
    kept = torch.cat([*stream.push(x), *stream.flush()], dim=1)[None]
    assert torch.equal(
        codec.coarsened(kept, levels), codec.encode_codes(x[None], levels)
    )


@pytest.mark.parametrize("levels", [1, 4])
def test_bytes_give_the_codes_back_on_any_machine(codec, levels):
    codes = codec.encode_codes(signal(3), levels)
    coded = codec.write(codes, levels)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert torch.equal(codec.read(coded.data, levels, (30,)), codes)
        with without_onednn():
            assert codec.write(codes, levels).data == coded.data
    finally:
        torch.set_num_threads(before)
    for one, item, bits in zip(codes, coded.data, coded.estimated_bits, strict=True):
        assert torch.equal(codec.read([item], levels, (30,))[0], one)
        assert codec.write(one[None], levels).data == [item]
        assert bits - 8 < 8 * len(item) <= 1.01 * bits + 8 * 8


def test_any_integers_that_are_allowed_can_be_coded(codec):
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(-LIMIT, LIMIT + 1, (2, 8, 6), generator=generator)
    codes[0, :, 3] = LIMIT
    codes[1, :, 4] = -LIMIT
    for levels in (1, 4):
        data = codec.write(codes, levels).data
        assert torch.equal(codec.read(data, levels, (6,)), codes)


def test_higher_rates_are_finer_and_larger(codec):
    with torch.no_grad():
        z = codec.transform.g_a(signal(2)).float()
    errors, sizes = [], []
    for levels in range(1, 5):
        codes = codec.quantize(z, levels)
        with torch.no_grad():
            z_hat = codec.dequantize(codes, levels)
        errors.append(float((z_hat - z).abs().mean()))
        sizes.append(sum(map(len, codec.write(codes, levels).data)))
    assert errors == sorted(errors, reverse=True) and errors[0] > 2 * errors[-1]
    assert sizes == sorted(sizes) and sizes[-1] > 1.5 * sizes[0]


@pytest.mark.parametrize("samples", [1, 319, 321, 4001])
def test_lengths_that_no_frame_divides(codec, samples):
    back = codec.decompress(codec.compress(signal(1, samples), 2))
    assert back.shape == (1, 1, samples) and bool(back.isfinite().all())


def test_saved_and_loaded_it_writes_the_same(codec, tmp_path):
    codec.save(tmp_path / "a.safetensors", CONFIG)
    first = load_codec(tmp_path / "a.safetensors")  # large weights are 16 bits now
    first.save(tmp_path / "b.safetensors", CONFIG)
    second = load_codec(tmp_path / "b.safetensors")
    x = signal(2)
    data = first.compress(x, 3)
    assert second.digest == first.digest and second.compress(x, 3) == data
    assert torch.equal(second.decompress(data), first.decompress(data))


def test_what_is_not_possible_is_named(codec):
    codes = torch.zeros(1, 8, 5, dtype=torch.int64)
    with pytest.raises(UsageError, match="1 to 4"):
        codec.write(codes, 5)
    with pytest.raises(InputError, match="8, positions"):
        codec.write(codes[:, :7], 1)
    with pytest.raises(InputError, match="5000"):
        codec.decode_codes(codes + 5000, 1)
    with pytest.raises(InputError, match=r"(?i)nan"):
        codec.compress(torch.full((1, 1, 400), torch.nan))
    with pytest.raises(ModelError, match="export"):
        make().compress(signal(1))
    with pytest.raises(ModelError, match="groups"):
        build("entropy/autoregressive", channels=4, groups=5)


def test_hostile_bytes_are_named(codec):
    """Flips and cuts: a named error or the same signal, never another one."""
    rng, found = random.Random(0), collections.Counter()
    data = codec.compress(signal(1, 4800), 4)[0]
    right = codec.decompress([data])
    for _ in range(80):
        bad = bytearray(data)
        if rng.random() < 0.3:
            bad = bad[: rng.randrange(len(bad))]
        else:
            at = rng.randrange(4, len(bad))  # behind the number of samples
            bad[at] ^= 1 << rng.randrange(8)
        try:
            same = torch.equal(codec.decompress([bytes(bad)]), right)
            found["same" if same else "other"] += 1
        except CodecError:
            found["named"] += 1
    assert found["other"] == 0 and found["named"] > 70, found


def test_training_sees_bits_and_reaches_every_part():
    codec = make().train()
    out = codec(signal(3), torch.tensor([1, 2, 4]))
    assert out.x_hat.shape == (3, 1, 9600) and out.bits.shape == (3,)
    (out.bits.mean() / 1000 + out.x_hat.square().mean()).backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    plain = codec(signal(1), torch.tensor([1]), quantize=False)
    assert float(plain.bits) == 0


def test_a_rate_without_noise_is_what_files_have(codec):
    """The continuous densities against the tables, at the codec's own integers."""
    codes = codec.encode_codes(signal(3), 4)
    coder = RateEstimator(3, noise=False)
    with torch.no_grad():
        codec.code(coder, codes, 4, (len(codes), *codes.shape[2:]))
    real = sum(codec.write(codes, 4).estimated_bits)
    assert float(coder.bits.sum()) == pytest.approx(real, rel=0.02)


def test_every_table_can_code_anything():
    tables = shifted_tables()
    assert len(tables) == SCALES * PLACES and bool(tables.has_escape.all())
    assert int(tables.minimum.min()) > -128 and int(tables.maximum.max()) < 128


@pytest.mark.parametrize(
    ("sigma", "more"), [(0.15, 0.04), (0.4, 0.01), (1, 0.005), (6, 0.005)]
)
def test_tables_cost_what_densities_say(sigma, more):
    """Means anywhere between integers: what grids of means and scales cost."""
    rng = np.random.default_rng(0)
    mean = torch.from_numpy(rng.uniform(-20, 20, (1, 1, 1, 20000))).float()
    noise = torch.from_numpy(rng.normal(size=mean.shape)).float()
    n = torch.round(mean + sigma * noise)
    index = torch.full_like(mean, float(np.log(sigma / 0.12) / STEP))
    assert float(sigma_of(index)[0, 0, 0, 0]) == pytest.approx(sigma, rel=1e-4)
    prior = Shifted(mean, index, shifted_tables())
    coder = RangeEncoder(1, estimate=True)
    assert torch.equal(coder.code(n, prior, tuple(n.shape)), n)
    ideal = float(prior.bits(n - prior.offsets).sum())
    assert coder.estimated_bits[0] == pytest.approx(ideal, rel=more)
    whole, table = place(mean, index)
    near = whole + (table % PLACES - PLACES / 2) / PLACES
    assert float((near - mean).abs().max()) <= 1 / 16 + 1e-5


def test_tables_fitted_to_counts_cost_less():
    rng = np.random.default_rng(0)
    n = torch.from_numpy(np.round(rng.laplace(0, 0.6, (1, 4, 1, 30000)))).float()
    prior = Shifted(torch.zeros_like(n), torch.full_like(n, 12.0), shifted_tables())
    counter = TableCounter(Whole, SCALES * PLACES, REACH)
    counter.code(n, prior, tuple(n.shape))
    assert counter.counts.sum() == n.numel()
    fitted = Shifted(prior.mean, prior.index, shifted_tables(counter.counts))
    bits = []
    for one in (prior, fitted):
        coder = RangeEncoder(1, estimate=True)
        coder.code(n, one, tuple(n.shape))
        bits.append(coder.estimated_bits[0])
    assert bits[1] < 0.98 * bits[0]


@pytest.fixture
def sounds(tmp_path, codec, monkeypatch):
    """A folder with 3.2 s of two channels, and a function that encodes it."""
    soundfile = pytest.importorskip("soundfile")
    from polycodec.codecs.files import api
    from polycodec.codecs.files.speech import encode as api_speech

    monkeypatch.setattr(api_speech, "CHUNK_SECONDS", 1)
    x = signal(2, 51200)[:, 0].T.numpy()
    soundfile.write(tmp_path / "in.wav", x, 16000, subtype="PCM_16")

    def encode(**options):
        file = io.BytesIO()
        done = api.encode(tmp_path / "in.wav", file, codec=codec, **options)
        return file.getvalue(), done

    return encode


def decoded(data: bytes, codec, **options):
    """Samples and what decoding said."""
    import soundfile

    from polycodec.codecs.files import api

    out = io.BytesIO()
    done = api.decode(io.BytesIO(data), out, codec=codec, **options)
    out.seek(0)
    return soundfile.read(out, always_2d=True)[0], done


def test_files_and_their_parts(sounds, codec):
    data, done = sounds(quality=100, channels="keep")
    y, _ = decoded(data, codec)
    assert y.shape == (51200, 2) and done.channels == 2
    part, _ = decoded(data, codec, seconds=(1.5, 2.75))
    assert np.array_equal(part, y[24000:44000])
    sizes = [len(sounds(quality=q)[0]) for q in (0, 50, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_a_wanted_rate_mixes_the_rates_of_chunks(sounds, codec):
    from polycodec.codecs.files.container.file import Reader

    low, high = (sounds(quality=q)[1].kbps for q in (0, 100))
    wanted = (low + high) / 2
    data, done = sounds(target_kbps=wanted)
    assert 0.8 * wanted < done.kbps <= wanted
    reader = Reader(io.BytesIO(data))
    assert len({reader.chunk(k)[0] for k in range(reader.n_chunks)}) == 2
    assert decoded(data, codec)[0].shape == (51200, 1)


def test_a_damaged_chunk_is_silent(sounds, codec):
    from polycodec.codecs.files.container.file import Reader

    data, _ = sounds(quality=100)
    whole, _ = decoded(data, codec)
    reader = Reader(io.BytesIO(data))
    at = reader.header_size + sum(reader.sizes[:2]) + 9
    bad = bytearray(data)
    bad[at] ^= 1
    with pytest.raises(CodecError, match=r"seconds: 0[.]0 to 2[.]0, 3[.]0 to 3[.]2"):
        decoded(bytes(bad), codec)
    y, done = decoded(bytes(bad), codec, salvage=True)
    assert done.damaged == [(2.0, 3.0)] and not y[32000:48000].any()
    assert np.array_equal(y[:30000], whole[:30000])


def test_there_are_no_tokens(sounds, codec, tmp_path):
    from polycodec.codecs.files.tokens import convert as api_tokens

    with pytest.raises(ModelError, match="token family"):
        api_tokens.tokens(tmp_path / "in.wav", codec=codec)
    with pytest.raises(ModelError, match="token family"):
        api_tokens.tokens(io.BytesIO(sounds(quality=0)[0]), codec=codec)
