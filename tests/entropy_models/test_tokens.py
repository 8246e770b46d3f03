# SPDX-License-Identifier: Apache-2.0
"""Token models: what was coded is decoded, what it costs, what bad bytes do."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from polycodec.codecs.stored import load_codec
from polycodec.cuda import crc32c
from polycodec.entropy_models import streams
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.tokens import learned as tokens_learned
from polycodec.entropy_models.tokens import network as tokens_network
from polycodec.entropy_models.tokens.steps import delayed
from polycodec.entropy_models.tokens.transformer import Transformer, TransformerContext
from polycodec.entropy_models.tokens.walk import log_table, power_table
from polycodec.errors import CodecError, InputError, ModelError
from polycodec.registry import build

SIZES = (37, 20, 100)
QUICK = {
    "tokens-static": ({}, {}),
    "tokens-adaptive": ({"width": 8, "hidden": 32, "columns": 2}, {"steps": 100}),
    "tokens-transformer": (
        {"width": 8, "channels": 32, "heads": 2, "window": 16},
        {"steps": 60},
    ),
}
QUICK["tokens-conditional"] = ({"width": 16}, {"steps": 250})
NAMES = sorted(QUICK)


def markov(frames: int, seed: int, sizes=SIZES) -> np.ndarray:
    """Level 0 walks on a ring; the others mostly follow from the level before."""
    rng = np.random.default_rng(seed)
    codes = np.empty((len(sizes), frames), np.int64)
    codes[0] = np.cumsum(rng.integers(-1, 2, frames)) % sizes[0]
    for level in range(1, len(sizes)):
        drawn = codes[level - 1] * 7 + rng.integers(0, 3, frames)
        codes[level] = drawn % sizes[level]
    return codes


def quick_fit(name: str, sequences: int, **changed):
    """A model fitted to little, in a second or two."""
    options, effort = QUICK[name]
    model = build(f"entropy/{name}", sizes=SIZES, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens_network, "BATCH", 4)
        patch.setattr(tokens_learned, "TRIED_FRAMES", 60)
        training = [markov(400, seed) for seed in range(sequences)]
        model.fit(training, **({**effort, **changed} if effort else {}))
    return model


@functools.cache
def fitted(name: str):
    return quick_fit(name, 12)


def encode(model, codes: torch.Tensor) -> list[bytes]:
    coder = RangeEncoder(codes.shape[0])
    model.code(coder, codes, tuple(codes.shape))
    return coder.finish()


def decode(model, data: list[bytes], shape: tuple[int, ...]) -> torch.Tensor:
    coder = RangeDecoder(data)
    out = model.code(coder, None, shape)
    coder.finish()
    return out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("batch", "levels", "frames"),
    [(1, 3, 120), (2, 3, 40), (1, 2, 60), (3, 1, 25), (1, 3, 1), (1, 3, 2), (2, 3, 0)],
)
def test_bytes_give_the_tokens_back(name, batch, levels, frames):
    model = fitted(name)
    items = [markov(frames, 50 + b)[:levels] for b in range(batch)]
    codes = torch.from_numpy(np.stack(items))
    data = encode(model, codes)
    assert torch.equal(decode(model, data, tuple(codes.shape)), codes)


@pytest.mark.parametrize("name", NAMES)
def test_batch_and_repetition_change_nothing(name):
    model = fitted(name)
    codes = torch.from_numpy(np.stack([markov(80, seed) for seed in (60, 61)]))
    together = encode(model, codes)
    assert together == encode(model, codes)
    assert together == [*encode(model, codes[:1]), *encode(model, codes[1:])]


@pytest.mark.parametrize("name", NAMES)
def test_estimate_and_bytes_agree(name):
    model = fitted(name)
    codes = torch.from_numpy(markov(200, 70))[None]
    estimate = float(model.bits(codes)) / 8
    real = len(encode(model, codes)[0])
    assert estimate - 1 <= real <= estimate * 1.004 + 12


@pytest.mark.parametrize("name", [n for n in NAMES if n != "tokens-static"])
def test_context_saves_bits(name):
    codes = torch.from_numpy(markov(400, 80))[None]
    static = float(fitted("tokens-static").bits(codes))
    assert float(fitted(name).bits(codes)) < 0.9 * static


def test_adaptation_saves_bits():
    """A sequence that keeps to four of all tokens, which training did not."""
    rng = np.random.default_rng(3)
    codes = torch.from_numpy(rng.integers(5, 9, (1, 3, 400)))
    model = fitted("tokens-adaptive")
    adapting = float(model.bits(codes))
    speed = model.adapt.clone()
    model.adapt[:, 0] = model.adapt[:, 2] = 0
    still = float(model.bits(codes))
    model.adapt.copy_(speed)
    assert adapting < 0.9 * still


def test_sizes_cost_their_entropy():
    """388 equally likely tokens: log2 388 = 8.6 bits, not 9."""
    for name in NAMES:
        model = build(f"entropy/{name}", sizes=[388])
        model.update()
        if hasattr(model, "adapt"):
            model.adapt.zero_()
        codes = torch.arange(388).view(1, 1, -1)
        bits = float(model.bits(codes)) / 388
        assert bits == pytest.approx(np.log2(388), abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_fit_is_reproducible(name):
    states = []
    for _ in range(2):
        model = quick_fit(name, 4, steps=4)
        states.append((model.tables["order0"].fingerprint(), model.state_dict()))
    (one, first), (two, second) = states
    assert one == two
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("frames", "steps"), [(400, 800), (128 * 16 * 60, 24 * 60), (300_000, 3200)]
)
def test_the_more_there_is_to_learn_the_more_steps_it_takes(frames, steps, monkeypatch):
    class Begun(Exception):
        pass

    def train(*args, steps, **options):
        raise Begun(steps)

    monkeypatch.setattr(tokens_learned, "train", train)
    model = build("entropy/tokens-adaptive", sizes=SIZES)
    monkeypatch.setattr(model, "apart", lambda sequences: (sequences, sequences))
    with pytest.raises(Begun) as begun:
        model.fit([np.zeros((len(SIZES), frames), np.int64)])
    assert begun.value.args == (steps,)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_few_steps_are_enough_to_fit(steps):
    model = quick_fit("tokens-adaptive", 1, steps=steps)
    codes = torch.from_numpy(markov(20, 5))[None]
    assert torch.equal(decode(model, encode(model, codes), codes.shape), codes)


@pytest.mark.parametrize("name", NAMES)
def test_random_bytes_are_refused_or_stay_in_the_codebook(name):
    model, rng = fitted(name), np.random.default_rng(5)
    limits = torch.tensor(SIZES).view(1, -1, 1)
    good = encode(model, torch.from_numpy(markov(30, 90))[None])[0]
    for trial in range(40):
        data = bytearray(good)
        data[4:] = rng.bytes(int(rng.integers(0, len(good) + 20)))
        if trial % 2:
            data = bytearray(good)
            data[int(rng.integers(4, len(good)))] ^= 1 << int(rng.integers(8))
        try:
            out = decode(model, [bytes(data)], (1, 3, 30))
        except CodecError:
            continue
        assert bool((out >= 0).all()) and bool((out < limits).all())


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_named(name):
    model = fitted(name)
    with pytest.raises(InputError, match="level 1 has tokens"):
        encode(model, torch.tensor([[[1], [20]]]))
    with pytest.raises(InputError, match="levels"):
        encode(model, torch.zeros(1, 4, 5, dtype=torch.int64))
    with pytest.raises(InputError, match="training sequence"):
        build(f"entropy/{name}", sizes=SIZES).fit([np.zeros((2, 9), int)])
    with pytest.raises(InputError, match="float64"):  # 0.7 is no token 0
        build(f"entropy/{name}", sizes=SIZES).fit([np.full((len(SIZES), 9), 0.7)])
    with pytest.raises(ModelError, match="fit it"):
        encode(build(f"entropy/{name}", sizes=SIZES), torch.zeros(1, 1, 1).long())
    with pytest.raises(ModelError, match="split larger"):
        build(f"entropy/{name}", sizes=[100000])


def test_images_have_two_trailing_axes():
    codes = torch.from_numpy(markov(42, 95)).view(1, 3, 6, 7)
    model = fitted("tokens-adaptive")
    assert torch.equal(decode(model, encode(model, codes), (1, 3, 6, 7)), codes)


def test_columns_are_delayed_level_by_level():
    codes = np.array([[1, 2, 3], [4, 5, 6]])
    assert delayed(codes, 9).tolist() == [[1, 2, 3, 9], [9, 4, 5, 6]]


def test_transformer_is_the_same_all_at_once_and_one_by_one():
    model = fitted("tokens-transformer")
    columns = torch.from_numpy(delayed(markov(90, 96), max(SIZES), 1))[None]
    with torch.no_grad():
        together = model.trunk(columns)[0]
        past, parts = [None] * len(model.trunk.layers), []
        for column in columns[..., :-1].unbind(2):
            g, past = model.trunk.go_on(column[..., None], past)
            parts.append(g[0, 0])
    assert torch.equal(torch.stack(parts), together)
    assert all(c.holds for c in model.certificates)


def test_tables_of_numbers_are_what_they_were():
    """Files depend on them: the checksums of their little-endian bytes."""
    assert crc32c(log_table().astype("<i8").tobytes()) == 3896739868
    assert crc32c(power_table().astype("<i8").tobytes()) == 2602859064


@pytest.mark.parametrize("shift", [33, -128])
def test_damaged_shifts_are_refused(shift):
    """-128 has no absolute value in 8 bits."""
    model = build("entropy/tokens-adaptive", sizes=SIZES)
    model.update()
    model.up_shift[0] = shift
    with pytest.raises(ModelError, match="damaged"):
        model.bits(torch.zeros(1, 3, 4, dtype=torch.int64))


def test_weights_file_keeps_the_model(tmp_path):
    """Before and after fitting: what is loaded codes the same bytes."""
    config = {
        "name": "token",
        "channels": 8,
        "quantizer": {"name": "residual", "levels": 2, "codes": 20},
        "entropy": {"name": "tokens-transformer", **QUICK["tokens-transformer"][0]},
    }
    codec = build("codec/token", **{k: v for k, v in config.items() if k != "name"})
    codes = torch.from_numpy(markov(40, 97, (20, 20)))[None]
    codec.entropy.update()
    for _ in range(2):
        codec.save(tmp_path / "codec.safetensors", config)
        loaded = load_codec(tmp_path / "codec.safetensors")
        data = codec.write(codes, codec.levels).data
        assert loaded.write(codes, loaded.levels).data == data
        assert torch.equal(loaded.read(data, 2, (40,)), codes)
        loaded.entropy.fit([codes[0].numpy()] * 2, steps=2)
        codec = loaded


@pytest.mark.parametrize("name", [*NAMES, "tokens-masked"])
def test_tokens_of_a_codec_on_a_device_are_coded_on_the_host(name, monkeypatch):
    asked = []
    monkeypatch.setattr(streams, "runtime_of", lambda device: asked.append(device.type))
    codec = build("codec/token", channels=8, entropy={"name": name})
    codec.entropy.update()
    codec.to("meta").writing(torch.empty(1, 2, 5, device="meta"), True)
    codec.reading([bytes(4)], b"")
    assert asked == ["cpu", "cpu"]
    # What is decoded lies where codes of this codec lie.
    monkeypatch.setattr(type(codec.entropy), "code", lambda *_: torch.zeros(1, 2, 5))
    assert codec.code(None, None, 1, (1, 5)).device.type == "meta"


def test_a_transformer_on_a_device_walks_on_the_host(monkeypatch):
    options = QUICK["tokens-transformer"][0] | {"layers": 1}
    host, away = (Transformer(SIZES, **options) for _ in range(2))
    monkeypatch.setattr(Transformer, "cpu", lambda _: host)
    assert TransformerContext(away.to("meta"), 1, SIZES).trunk is host
