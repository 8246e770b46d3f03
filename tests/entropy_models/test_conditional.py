# SPDX-License-Identifier: Apache-2.0
"""Finer tokens given coarser ones: large alphabets, shared codebooks, many passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.tokens import conditional
from polycodec.errors import CodecError, ModelError
from polycodec.registry import build

# Two groups at one place, then 2 x 2 places of them, as a cascade has them.
SIZES = (7, 7, *(20, 20) * 4)
ALIKE = (0, 1, *(2, 3) * 4)
GIVEN = ((), (), *((0, 1),) * 8)


def cascade(places: int, seed: int) -> np.ndarray:
    """The finer groups follow from the sum of the coarser ones, with some choice."""
    rng = np.random.default_rng(seed)
    codes = np.empty((10, places), np.int64)
    codes[:2] = rng.integers(0, 7, (2, places))
    follow = (codes[0] + codes[1]) + rng.integers(0, 3, (8, places))
    codes[2:] = (follow + 5 * (np.arange(8) % 2)[:, None]) % 20
    return codes


def made(**options):
    given = {"sizes": SIZES, "alike": ALIKE, "given": GIVEN, "width": 8, **options}
    model = build("entropy/tokens-conditional", **given)
    model.fit([cascade(120, seed) for seed in range(24)], steps=150)
    return model


def there_and_back(model, codes: torch.Tensor) -> bytes:
    coder = RangeEncoder(codes.shape[0])
    model.code(coder, codes, tuple(codes.shape))
    data = coder.finish()
    reader = RangeDecoder(data)
    assert torch.equal(model.code(reader, None, tuple(codes.shape)), codes)
    reader.finish()
    return data[0]


@pytest.mark.parametrize("most", [4096, 12], ids=["one symbol", "two symbols"])
def test_all_coarser_groups_say_something(most, monkeypatch):
    monkeypatch.setattr(conditional, "BLOCK", 8)
    model = made(most=most)
    assert [bool(b.blocks) for b in model.books] == [False, False] + 2 * [most == 12]
    static = build("entropy/tokens-static", sizes=SIZES, alike=ALIKE)
    static.fit([cascade(120, seed) for seed in range(24)])
    codes = torch.from_numpy(cascade(300, 99))[None]
    # 8 of 10 planes cost log2 3 = 1.6 bits at best, and log2 14 = 3.8 by order 0.
    there, before = float(model.bits(codes)) / 300, float(static.bits(codes)) / 300
    least = 2 * np.log2(7) + 8 * np.log2(3)
    assert least < there < least + 0.5 * (before - least)
    data = there_and_back(model, codes[..., :50])
    assert len(data) <= 1.01 * float(model.bits(codes[..., :50])) / 8 + 64


def test_more_places_than_a_pass_holds(monkeypatch):
    model = made()
    codes = torch.from_numpy(np.stack([cascade(33, 5), cascade(33, 6)]))
    monkeypatch.setattr(conditional, "LOGITS", 20 * 50)
    there_and_back(model, codes)
    shaped = codes.view(2, 10, 3, 11)
    there_and_back(model, shaped)


def test_an_alphabet_of_8192():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 16, (2, 4000))
    codes = np.stack([coarse, 512 * coarse + rng.integers(0, 512, (2, 4000))], 1)
    model = build("entropy/tokens-conditional", sizes=(16, 8192), width=16)
    model.fit(list(codes), steps=120)
    flat = torch.from_numpy(codes[:1, :, :200])
    assert float(model.bits(flat)) / 200 < 4.2 + 10.5  # 4 + 9 bits; order 0: 4 + 13
    there_and_back(model, flat)


def test_what_says_nothing_is_not_believed():
    """Held-out tokens that do not follow from coarser ones: order 0 is kept."""
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 9, (2, 60)) for _ in range(24)]
    model = build("entropy/tokens-conditional", sizes=(9, 9), width=8)
    model.fit(codes, steps=200)
    static = build("entropy/tokens-static", sizes=(9, 9))
    static.fit(codes)
    other = torch.from_numpy(rng.integers(0, 9, (1, 2, 2000)))
    assert float(model.bits(other)) < 1.005 * float(static.bits(other))


def test_damaged_bytes_of_two_symbols_stay_in_the_codebook():
    model = build("entropy/tokens-conditional", sizes=(3, 70), width=8, most=64)
    model.update()
    codes = torch.randint(0, 3, (1, 2, 40))
    good = there_and_back(model, codes)
    rng = np.random.default_rng(0)
    for _ in range(40):
        data = good[:4] + rng.bytes(len(good))
        try:
            out = model.code(RangeDecoder([data]), None, (1, 2, 40))
        except CodecError:
            continue
        assert int(out.min()) >= 0 and int(out[:, 1].max()) < 70


@pytest.mark.parametrize(
    "alike", [(0, 1), (0, 0, 2), (0, 1, 1), (1, 2, 3)], ids=["few", "gap", "sizes", "1"]
)
def test_codebooks_that_cannot_be_shared_are_named(alike):
    with pytest.raises(ModelError, match="alike is"):
        build("entropy/tokens-static", sizes=(3, 3, 4), alike=alike)
