# SPDX-License-Identifier: Apache-2.0
"""Networks some of whose tensors are coded by quantizers of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polycodec.codecs.families.implicit import ImplicitCodec
from polycodec.codecs.fitting import allocated, message
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.packed import matrix
from polycodec.codecs.transforms.network import on_meta
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.errors import BitstreamError, ModelError
from polycodec.registry import build

HNERV = {
    **{"name": "hnerv-boost", "strides": [2, 2], "depths": [1, 1], "times": 4},
    **{"levels": 4, "least": 4, "features": 8, "embedding": 2},
}


NERV = {
    **{"name": "nerv", "strides": [2, 2], "stem": 8, "levels": 4},
    **{"expansion": 2, "least": 6, "base": 1.6},
}


def codec(network=NERV, **fit) -> ImplicitCodec:
    return ImplicitCodec(network=network, fit={"lr": 0.01, **fit}, bpp=(16, 64))


def clip() -> torch.Tensor:
    y, x = torch.linspace(0, 1, 16)[:, None], torch.linspace(0, 1, 24)
    shown = [torch.stack([(x - k / 4).abs() + 0 * y, y * x, 1 - x * y]) for k in (1, 3)]
    return torch.stack(shown, dim=1)[None].clamp(0, 1)


def row_with(kinds: tuple[str, ...]) -> tuple[message.Network, torch.Tensor, dict]:
    """A network, its row, and its tensors; the largest ones packed by these kinds."""
    torch.manual_seed(1)
    network = codec(HNERV).network_of((2, 16, 24), 12)
    tensors = {name: p.detach() for name, p in network.sent().items()}
    tensors[message.EMBEDDINGS] = torch.randn(message.shapes(network)["embeddings"])
    k = torch.full((len(tensors),), -80.0)
    parts: list[message.Part] = []
    large = sorted(tensors, key=lambda name: tensors[name].numel())[-len(kinds) :]
    for name, value in tensors.items():
        if name in large:
            how = kinds[large.index(name)]
            step = round(4 * float(value.square().mean().sqrt().log2())) - 8
            quantizer, setting = (
                build(f"weights/{how}"),
                12 if how == "trellis" else step,
            )
            data = quantizer.encode(matrix(value), setting)
            parts.append((how, data))
        else:
            parts.append(torch.round(value.flatten() * 32))
    return network, message.row_of(k, parts), tensors


def test_every_quantizer_is_a_way_into_the_stream():
    network, row, tensors = row_with(message.PACKED[1:])
    entropy, bare = codec().entropy, on_meta(codec(HNERV).network_of, (2, 16, 24), 12)
    encoder = RangeEncoder(1, estimate=True)
    out = message.code(entropy, encoder, row[None], network, packed=True)
    assert torch.equal(out[0], row)
    [data] = encoder.finish()
    [bits] = encoder.estimated_bits
    assert abs(8 * len(data) - bits) <= 0.01 * bits + 32
    read = message.code(entropy, RangeDecoder([data]), None, bare, packed=True)
    assert torch.equal(read, out)
    found = message.opened(bare, torch.cat([read[0], torch.zeros(9)]), packed=True)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        worst = (found[name] - value).square().mean() / value.square().mean()
        assert found[name].shape == value.shape and worst < 0.08, name


@pytest.mark.parametrize("wide", [16, 40, 60])
def test_tensors_of_many_bytes_are_read_as_they_were_written(wide):
    """Of 14 kB, which one number says, of 35 kB and 52 kB, which it does not."""
    torch.manual_seed(1)
    made = codec({**NERV, "stem": 48})
    network = made.network_of((2, 16, 24), wide)
    parts: list[message.Part] = []
    for value in message.shapes(network).values():
        x = torch.randn(value)
        data = build("weights/scalar").encode(matrix(x), -16) if x.ndim > 1 else None
        parts.append(torch.round(9 * x.flatten()) if data is None else ("scalar", data))
    k = torch.full((len(parts),), -80.0)
    head = torch.tensor([2.0, 16, 24, -wide])
    row = torch.cat([head, message.row_of(k, parts)])[None, None]
    largest = max(len(part[1]) for part in parts if isinstance(part, tuple))
    assert (largest > message.FULL) == (wide > 16) and largest > 800 * wide
    coded = made.write(row, 50)
    back = made.read(coded.data, 50, (2, 16, 24))
    assert torch.equal(back, row) and torch.equal(coded.codes, row)
    opened = message.opened(network, back[0, 0, 4:], packed=True)
    for part, found in zip(parts, opened.values(), strict=True):
        if isinstance(part, tuple):
            wanted = build("weights/scalar").decode(part[1], matrix(found).shape)
            assert np.array_equal(matrix(found), wanted)


def test_numbers_that_no_stream_holds_are_refused():
    made = codec()
    row = made.encode_codes(clip(), 1, plan=Plan(steps=2))
    row[..., -1] = 1e6
    with pytest.raises(ModelError, match="beyond 16 bits"):
        made.write(row, 1)


@pytest.mark.parametrize(
    ("place", "value"), [(0, 9), (0, -1), (0, 0.0), ("bytes", 30000), ("bytes", -2)]
)
def test_what_no_encoder_says_of_packed_tensors_is_named(place, value):
    network, row, tensors = row_with(("lattice",))
    if place == 0:
        row[: len(tensors)] = value  # none is packed at 0: then there is no such row
    else:
        row[len(tensors)] = value
    entropy, encoder = codec().entropy, RangeEncoder(1)
    with pytest.raises(BitstreamError, match="packs tensors"):
        message.code(entropy, encoder, row[None], network, packed=True)


def test_bytes_that_no_quantizer_writes_are_named():
    network, row, _ = row_with(("trellis",))
    row[-len(row_bytes(row)) :] = 7
    with pytest.raises(BitstreamError, match="tensor of the stream is damaged"):
        message.opened(network, row, packed=True)


def row_bytes(row: torch.Tensor) -> np.ndarray:
    """The bytes at the end of a row of one packed tensor."""
    network = codec(HNERV).network_of((2, 16, 24), 12)
    return row[-int(row[len(message.shapes(network))]) :].numpy()


def test_packed_tensors_are_nearer_in_the_same_bytes():
    x, errors = clip(), []
    for packed in (False, True):
        made = codec(coding="trellis", packed=packed)
        plan = Plan(steps=8, bytes=1200)
        codes = made.encode_codes(x, made.level_of(30), plan=plan)
        assert (codes[0, 0, 3] < 0) == packed
        coded = made.write(codes, 30)
        assert len(coded.data[0]) <= 1200 and torch.equal(coded.codes, codes)
        assert torch.equal(made.read(coded.data, 30, x.shape[2:]), codes)
        errors.append((made.decode_codes(codes, 30) - x).square().mean())
    assert errors[1] < errors[0]


def test_errors_are_measured_as_often_as_the_time_kept_for_it_says(monkeypatch):
    """Twice a tensor, once of all as they are, and of both ways at the end."""
    calls, measured = [], allocated._error

    def counted(*given):
        calls.append(given)
        return measured(*given)

    monkeypatch.setattr(allocated, "_error", counted)
    made = codec(coding="trellis", packed=True)
    made.encode_codes(clip(), made.level_of(30), plan=Plan(steps=8, bytes=1200))
    tensors = len(message.shapes(calls[0][0].network))
    assert len(calls) == 2 * tensors + 1 + 2


def test_signals_whose_rows_differ_in_length_stand_side_by_side():
    made = codec()
    x = torch.cat([clip(), clip().flip(4) ** 3])
    data = made.compress(x, 30)
    codes = made.encode_codes(x, made.level_of(30))
    assert torch.equal(made.write(codes, made.level_of(30)).codes, codes)
    each = [made.decompress(item) for item in data]
    assert torch.equal(made.decompress(data), torch.cat(each))
