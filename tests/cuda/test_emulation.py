# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels' very source, run on the host by emulation.cpp.

The same bytes as the reference, both ways; damage found as the reference finds it;
torch's side of a device with a driver that is the emulation.
POLYCODEC_EMULATED_CASES=1000 runs as many random cases.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import types

import numpy as np
import pytest
from coder_streams import (
    GOLDEN,
    LANES,
    SHAPES,
    edge_pass,
    encode,
    golden_stream,
    random_pass,
    random_tables,
)
from emulation import Emulator, library, missing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polycodec.cuda import StreamDecoder, TableSet, crc32c
from polycodec.cuda.device import driver
from polycodec.cuda.device.batch import BatchDecoder, BatchEncoder
from polycodec.cuda.device.checksum import BatchChecksum
from polycodec.errors import BitstreamError, InputError, TruncatedError, UsageError

CASES = int(os.environ.get("POLYCODEC_EMULATED_CASES", "100"))


emulated = pytest.mark.skipif(bool(missing()), reason=missing())


def device_encode(batch, device, **options) -> list[bytes]:
    """batch: one list of passes for each stream, of equal sizes and tables."""
    encoder = BatchEncoder(len(batch), device)
    for parts in zip(*batch, strict=True):
        symbols, indexes = (np.stack([part[i] for part in parts]) for i in (1, 2))
        encoder.put(symbols, indexes, parts[0][0])
    return encoder.finish(**options)


def device_decode(data, batch, device) -> None:
    decoder = BatchDecoder(data, device)
    found = []
    for parts in zip(*batch, strict=True):
        indexes = np.stack([part[2] for part in parts])
        found.append((decoder.get(indexes, parts[0][0]), parts))
    decoder.finish()
    for symbols, parts in found:
        np.testing.assert_array_equal(symbols, np.stack([part[1] for part in parts]))


def assert_same(batch, device=None, **options) -> None:
    """The kernels write the reference's bytes and read them back."""
    device = device or Emulator()
    wanted = [encode(passes, "numpy", **options) for passes in batch]
    assert device_encode(batch, device, **options) == wanted
    device_decode(wanted, batch, device)


@emulated
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_streams(case):
    passes, options, data = golden_stream(case)
    assert device_encode([passes], Emulator(), **options) == [data]
    device_decode([data], [passes], Emulator())


@emulated
@pytest.mark.parametrize("lanes", LANES)
def test_every_lane_count_and_partial_step(lanes):
    rng = np.random.default_rng(lanes)
    tables = random_tables(rng, 12, 7)
    for n in {0, 1, 2, lanes - 1, lanes, lanes + 1, 3 * lanes + 5, 9 * lanes} - {-1}:
        dtype = (np.uint8, np.int32)[n % 2]
        assert_same([[random_pass(rng, tables, n, dtype)]], lanes=lanes)


@emulated
@pytest.mark.parametrize("precision", range(8, 16))
def test_every_precision_with_frequencies_1_and_all(precision):
    for lanes in (0, 2, 32):
        assert_same([[edge_pass(precision, 300)]], lanes=lanes)


@emulated
@pytest.mark.parametrize("limit", [48 << 10, 2 << 10, 0])
def test_tables_in_shared_memory_and_elsewhere(limit):
    rng = np.random.default_rng(3)
    book = TableSet.from_pmfs([rng.gamma(1, size=1024)], [0], 14, None)
    many = random_tables(rng, 10, 300)  # indexes beyond 8 bits
    passes = [random_pass(rng, book, 300), random_pass(rng, many, 200)]
    passes[1] = (many, *random_wide(rng, many, 200))
    assert_same([passes], Emulator(shared_limit=limit), lanes=8)


def random_wide(rng, tables, n):
    tables_of = rng.integers(0, len(tables), n).astype(np.int32)
    return tables.clamp(rng.integers(-400, 400, n), tables_of), tables_of


@emulated
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(chunks=st.sampled_from([None, 1, 2, 5, 40]), **SHAPES)
def test_batches_are_the_reference_byte_for_byte(seed, lanes, chunks, crc):
    rng = np.random.default_rng(seed)
    chunks = 1 if lanes == 0 else chunks
    sizes = rng.integers(0, 150, rng.integers(1, 4))
    sets = [random_tables(rng, int(rng.integers(8, 16)), 4) for _ in sizes]
    batch = []
    for _ in range(rng.integers(1, 4)):
        pairs = zip(sets, sizes, strict=True)
        batch.append([random_pass(rng, tables, int(n)) for tables, n in pairs])
    device = Emulator(seed=seed)
    assert_same(batch, device, lanes=lanes, chunks=chunks, crc=crc)


@emulated
def test_streams_of_a_batch_may_differ_in_lanes_and_chunks():
    rng = np.random.default_rng(9)
    tables = random_tables(rng, 12, 3)
    batch = [[random_pass(rng, tables, 200, np.uint8)] for _ in range(6)]
    shapes = [(8, 3), (8, 3), (0, 1), (32, 1), (1, 5), (1, 5)]
    data = [
        encode(passes, "numpy", lanes=lanes, chunks=chunks)
        for passes, (lanes, chunks) in zip(batch, shapes, strict=True)
    ]
    for passes, (lanes, chunks), wanted in zip(batch, shapes, data, strict=True):
        one = device_encode([passes], Emulator(), lanes=lanes, chunks=chunks)
        assert one == [wanted]
    device_decode(data, batch, Emulator())


@emulated
def test_damage_is_found_as_the_reference_finds_it():
    rng = np.random.default_rng(6)
    tables = TableSet.from_pmfs(
        [rng.gamma(0.4, size=k) + 1e-3 for k in (3, 20, 90)],
        [-1, -9, -40],
        12,
        [None, 0.05, None],
    )
    indexes = rng.integers(0, 3, 300).astype(np.uint8)
    symbols = tables.clamp(np.rint(rng.normal(0, 6, 300)), indexes)
    outcomes = {True: 0, False: 0}
    for lanes, chunks in [(0, 1), (1, 1), (4, 1), (32, 1), (2, 5)]:
        whole = encode(
            [(tables, symbols, indexes)], "numpy", lanes=lanes, chunks=chunks
        )
        for number in range(40):
            data = bytearray(whole)
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            cut = len(data) if number % 2 else rng.integers(len(data))
            fine = [
                is_fine(bytes(data[:cut]), tables, indexes, coder)
                for coder in ("numpy", "device")
            ]
            assert fine[0] == fine[1], (lanes, chunks, number)
            outcomes[fine[0]] += 1
    assert outcomes[False] > 150  # flipped raw values of escapes cannot be noticed


def is_fine(data: bytes, tables, indexes, coder: str) -> bool:
    try:
        if coder == "numpy":
            decoder = StreamDecoder(data, backend="numpy")
            decoder.get(indexes, tables)
        else:
            decoder = BatchDecoder([data], Emulator())
            decoder.get(indexes[None], tables)
        decoder.finish()
    except BitstreamError:
        return False
    return True


@emulated
def test_errors_name_the_stream():
    tables = TableSet(8, [3, 3], [0, 0], [0, 128, 128, 1, 128, 127])
    zero = np.zeros((2, 4), np.int32)
    for symbol, index in [(2, 0), (-1, 0), (40_000, 1), (0, 2), (0, -1)]:
        encoder = BatchEncoder(2, Emulator())
        encoder.put(zero, zero, tables)
        symbols, indexes = zero.copy(), zero.copy()
        symbols[1, 2], indexes[1, 2] = symbol, index
        encoder.put(symbols, indexes, tables)
        with pytest.raises(InputError, match="stream 1, pass 1, position 2"):
            encoder.finish()
    good = device_encode([[(tables, zero[0], zero[0])]] * 2, Emulator(), lanes=2)
    decoder = BatchDecoder(good, Emulator())
    decoder.get(np.repeat(zero, 20, axis=1), tables)
    with pytest.raises(TruncatedError, match="stream 0: chunk 0 of 1"):
        decoder.finish()
    decoder = BatchDecoder(good, Emulator())
    decoder.get(zero + 2, tables)
    with pytest.raises(InputError, match="no table"):
        decoder.finish()
    with pytest.raises(BitstreamError, match="limit"):
        BatchDecoder(good, Emulator(), max_symbols=3).get(zero, tables)
    for bad in (zero[0], zero.astype(np.int64), zero[:1]):
        with pytest.raises(InputError):
            BatchDecoder(good, Emulator()).get(bad, tables)


@emulated
def test_a_finished_encoder_refuses_and_the_arrays_are_copied():
    rng = np.random.default_rng(1)
    tables, symbols, indexes = random_pass(rng, random_tables(rng, 12, 3), 50)
    wanted = encode([(tables, symbols, indexes)], "numpy")
    encoder = BatchEncoder(1, Emulator())
    symbols, indexes = symbols[None].copy(), indexes[None].copy()
    encoder.put(symbols, indexes, tables)
    symbols += 1
    assert encoder.finish() == [wanted]
    with pytest.raises(UsageError):
        encoder.finish()
    with pytest.raises(UsageError):
        encoder.put(symbols, indexes, tables)


@emulated
def test_checksums_of_planes_go_on_from_pass_to_pass():
    rng = np.random.default_rng(4)
    check, wanted = BatchChecksum(3, Emulator()), [0, 0, 0]
    for n in (1, 255, 0, 256, 257, 40_000):
        planes = rng.integers(0, 256, (3, n)).astype(np.uint8)
        check.update(planes)
        wanted = [
            crc32c(row.tobytes(), w) for row, w in zip(planes, wanted, strict=True)
        ]
        assert check.values() == wanted
    with pytest.raises(InputError, match="uint8"):
        check.update(np.zeros((3, 4), np.int32))


# torch's side of a device: its memory is the CPU's, its driver the emulation.


def test_a_machine_without_a_device_says_so():
    import torch

    if torch.cuda.is_available():
        assert driver.on("cuda").processors > 0
    else:
        with pytest.raises(UsageError, match="no CUDA device"):
            driver.on("cuda")


class FakeDriver:
    """libcuda's few calls, answered by the emulation."""

    def cuModuleGetFunction(self, function, module, name):
        self.names = [*getattr(self, "names", []), name]
        function._obj.value = len(self.names)
        return 0

    def cuCtxSetCurrent(self, context):
        return 0 if context.value == 5 else 1

    def cuFuncSetAttribute(self, function, attribute, value):
        return 0 if attribute == 8 and value.value == 1 << 20 else 1

    def cuLaunchKernel(self, function, *args):
        x, y, z, threads, one, again, shared, stream, pointers, extra = args
        assert (z.value, one.value, again.value, extra) == (1, 1, 1, None)
        self.streams = [*getattr(self, "streams", []), stream.value]
        name = self.names[function.value - 1]
        numbers = (x.value, y.value, threads.value, shared.value, 5)
        return library().polycodec_emulate(name, pointers[0], *numbers)


@pytest.fixture
def fake_device(monkeypatch):
    import torch

    fake = FakeDriver()
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    monkeypatch.setattr(torch.cuda, "device", lambda d: contextlib.nullcontext())
    stream = types.SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda d: stream)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    device = driver.Device.__new__(driver.Device)
    device.torch, device.device = torch, torch.device("cpu")
    device.processors, device.shared_limit, device._optin = 3, 40 << 10, 1 << 20
    device._context, device._module = ctypes.c_void_p(5), ctypes.c_void_p()
    device._functions = {}
    return device


@emulated
def test_torch_tensors_through_the_driver(fake_device):
    torch = fake_device.torch
    rng = np.random.default_rng(11)
    sets = [random_tables(rng, 12, 4), random_tables(rng, 14, 9)]
    batch = [[random_pass(rng, tables, 120) for tables in sets] for _ in range(3)]
    wanted = [encode(passes, "numpy", lanes=4, chunks=3) for passes in batch]
    encoder = BatchEncoder(3, fake_device)
    planes = []
    for tables, parts in zip(sets, zip(*batch, strict=True), strict=True):
        symbols = torch.from_numpy(np.stack([part[1] for part in parts]))
        indexes = torch.from_numpy(np.stack([part[2].astype("u1") for part in parts]))
        encoder.put(symbols, indexes, tables)
        planes.append((symbols, indexes.int()))
    assert encoder.finish(lanes=4, chunks=3) == wanted
    decoder = BatchDecoder(wanted, fake_device)
    for tables, (symbols, indexes) in zip(sets, planes, strict=True):
        # Not contiguous: every second column of a wider plane.
        wide = torch.stack([indexes, indexes], -1).flatten(1)[:, ::2]
        assert torch.equal(decoder.get(wide, tables), symbols)
    decoder.finish()
    with pytest.raises(InputError, match="int64"):
        decoder.get(planes[0][1].long(), sets[0])


@emulated
def test_tables_kept_for_one_stream_are_not_read_on_another(fake_device, monkeypatch):
    torch, uploads = fake_device.torch, []
    upload = driver.Device.upload

    def counted(self, array):
        uploads.append(self.stream())
        return upload(self, array)

    monkeypatch.setattr(driver.Device, "upload", counted)
    tables = TableSet.from_pmfs([[1, 2, 3]], [0], 12)
    symbols = torch.tensor([[0, 2, 1, 1]], dtype=torch.int32)
    found = []
    for stream in (77, 78, 77):
        current = types.SimpleNamespace(cuda_stream=stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda d, s=current: s)
        uploads.clear()
        encoder = BatchEncoder(1, fake_device)
        encoder.put(symbols, torch.zeros_like(symbols), tables)
        data = encoder.finish()
        found.append(len(uploads))
        assert set(uploads) == {stream}
        assert StreamDecoder(data[0]).get([0] * 4, tables).tolist() == [0, 2, 1, 1]
    first, other, again = found  # tables, rows of the encoder and costs go along once
    assert first == other == again + 3
    assert set(driver._driver().streams) == {77, 78}
