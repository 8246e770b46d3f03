# SPDX-License-Identifier: Apache-2.0
"""Codecs whose tensors lie on a device are coded there: the host's bytes, both ways.

The device is the emulation of the CUDA kernels: the same batches, launches and tables
as on a GPU, without one.
"""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch
from emulation import Emulator, missing

from polycodec.codecs.base import Codec
from polycodec.cuda import TableSet
from polycodec.cuda.device import driver
from polycodec.entropy_models import streams, symbols
from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.exact.positions import Positions, gather, scatter
from polycodec.errors import (
    CodecError,
    DeterminismError,
    TruncatedError,
    UsageError,
)
from polycodec.registry import build

HEAD = 10  # bytes of a compressed image before its stream


emulated = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture
def on_device(monkeypatch):
    """A function: True makes the emulation the device of CPU tensors, False not."""

    def switch(on: bool) -> None:
        device = Emulator() if on else None
        monkeypatch.setattr(streams, "runtime_of", lambda _: device)

    return switch


def frozen(section: dict) -> Codec:
    torch.manual_seed(5)
    section = dict(section)
    codec = build(f"codec/{section.pop('name')}", **section)
    with torch.no_grad():  # latents that are worth coding
        for name, value in codec.named_parameters():
            if name.endswith("weight"):
                value.mul_(3)
    x = torch.rand(2, 3, 64, 48)
    codec.freeze(
        lambda c: [c(x, torch.full((2,), c.level_of(q))) for q in (0, 50, 100)]
    )
    return codec


@emulated
def test_numbers_and_bytes_beside_weights_are_coded_on_a_device_too(on_device):
    model, made = build("entropy/weights"), {}
    for device in (False, True):
        on_device(device)
        coder = RangeEncoder(1)
        model.number(coder, torch.tensor([[17.0]]))
        model.octets(coder, torch.arange(5.0)[None], 5)
        made[device] = coder.finish()
    assert made[True] == made[False]
    coder = RangeDecoder(made[True])
    assert model.number(coder, None) == 17
    assert model.octets(coder, None, 5).tolist() == [[0, 1, 2, 3, 4]]
    coder.finish()


@emulated
@pytest.mark.parametrize("entropy", ["context", "factorized"])
def test_files_are_the_same_from_device_and_host(tiny_codec, on_device, entropy):
    codec = frozen(tiny_codec("conv", entropy))
    x = torch.rand(2, 3, 37, 50)
    made, read = {}, {}
    for device in (False, True):
        on_device(device)
        made[device] = codec.compress(x, 80)
    assert made[True] == made[False]
    assert min(map(len, made[True])) > 40  # something was coded
    for device in (False, True):
        on_device(device)
        read[device] = codec.decompress(made[not device])
    assert torch.equal(read[True], read[False])


@emulated
def test_damage_is_told_as_by_the_host(tiny_codec, on_device):
    codec = frozen(tiny_codec("conv", "context"))
    whole = codec.compress(torch.rand(2, 3, 37, 50), 100)
    hashed = bytearray(whole[1])
    hashed[HEAD] ^= 1
    swapped = whole[1][: HEAD + 4] + whole[0][HEAD + 4 :]
    for data in (bytes(hashed), swapped, whole[1][: len(whole[1]) // 2]):
        kinds = []
        for device in (False, True):
            on_device(device)
            with pytest.raises(CodecError) as caught:
                codec.decompress([whole[0], data])
            kinds.append(caught.type)
        assert kinds[0] == kinds[1]
        assert kinds[0] in (DeterminismError, TruncatedError)
    with pytest.raises(TruncatedError, match="at least 4"):
        RangeDecoder([b"abc"])


def test_codable_is_clamp():
    tables = TableSet(8, [3, 3, 2], [0, -5, 7], [0, 128, 128, 1, 128, 127, 0, 256])
    values = torch.tensor([[-40000, 0, 1, 2], [99, 7, 40000, -7]], dtype=torch.int32)
    for kind in (torch.uint8, torch.int32, torch.int64):
        indexes = torch.tensor([[1, 0, 0, 0], [2, 2, 1, 1]], dtype=kind)
        wanted = torch.from_numpy(tables.clamp(values.numpy(), indexes.numpy()))
        assert torch.equal(symbols.codable(values, indexes, tables), wanted)
        floats = symbols.codable(values.float(), indexes, tables)
        assert floats.dtype == torch.float32 and torch.equal(floats.int(), wanted)


def test_ideal_bits_are_those_of_the_tables():
    tables = TableSet(8, [3, 3, 2], [0, -5, 7], [0, 128, 128, 1, 128, 127, 0, 256])
    indexes = torch.tensor([[1, 1, 1, 0], [2, 0, 1, 0]], dtype=torch.uint8)
    values = torch.tensor([[-5, 900, -4, 1], [7, 0, -900, 1]], dtype=torch.int32)
    found = symbols.symbol_bits(values, indexes, tables).sum(1)
    for row, index, bits in zip(values, indexes, found.tolist(), strict=True):
        assert bits == pytest.approx(tables.bits(row.numpy(), index.numpy()))


class Zeros(Coder):
    """A decoder of zeros that never looks at a value."""

    def code(self, value, prior, shape):
        coded = torch.zeros(shape, dtype=torch.int32, device=prior.device)
        assert prior.indexes(shape).device == prior.device
        return coded + prior.offsets


@torch.inference_mode()
@pytest.mark.parametrize("entropy", ["context", "factorized"])
def test_nothing_between_passes_waits_for_the_device(tiny_codec, entropy, monkeypatch):
    """Meta tensors have no values: whoever asks for one fails, as a GPU would wait."""
    nothing = contextlib.nullcontext()  # there is no autocast for them
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nothing)
    codec = frozen(tiny_codec("conv", entropy)).to("meta")
    y_hat = codec.entropy.code(Zeros(), None, (2, 5, 7))
    assert y_hat.shape == (2, 12, 5, 7)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 4), (3, 1), (2, 4), (5, 7), (4, 6), (3, 4)]
)
def test_positions_are_what_a_search_finds(size):
    x = torch.rand(2, 3, *size)
    for half in (0, 1):
        where = Positions.checkerboard(*size, half)
        assert torch.equal(where.index, where.mask.flatten().nonzero().squeeze(1))
        picked = gather(x, where)
        assert torch.equal(picked.squeeze(2), x[:, :, where.mask])
        back = scatter(torch.zeros_like(x), where, picked)
        assert torch.equal(back, x * where.mask)
    whole = Positions.everywhere(*size)
    assert torch.equal(whole.index, whole.mask.flatten().nonzero().squeeze(1))


def test_cuda_alone_is_the_device_of_now_not_the_one_of_the_first_call(monkeypatch):
    monkeypatch.setattr(driver, "on", lambda index: f"device {index}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("POLYCODEC_CODER", raising=False)
    driver._usable.cache_clear()
    for now in (1, 0):
        monkeypatch.setattr(torch.cuda, "current_device", lambda now=now: now)
        assert driver.runtime_of(torch.device("cuda")) == f"device {now}"
    driver._usable.cache_clear()


def test_without_nvrtc_the_host_codes_and_says_so_once(monkeypatch):
    def missing(_):
        raise UsageError("NVRTC is not installed")

    monkeypatch.setattr(driver, "on", missing)
    monkeypatch.delenv("POLYCODEC_CODER", raising=False)
    driver._usable.cache_clear()
    cuda = torch.device("cuda", 0)
    with pytest.warns(RuntimeWarning, match="runs on the CPU.*NVRTC is not installed"):
        assert isinstance(streams.writer(2, cuda), streams.HostWriter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(streams.reader([b"1234"], cuda), streams.HostReader)
        monkeypatch.setenv("POLYCODEC_CODER", "numpy")
        driver._usable.cache_clear()
        assert driver.runtime_of(cuda) is None  # asked for: nothing to say
    driver._usable.cache_clear()
