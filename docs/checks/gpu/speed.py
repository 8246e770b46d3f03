# SPDX-License-Identifier: Apache-2.0
"""Speed of the CUDA coder, for check.py: throughput, time per step, latency.

    latency      one image's symbols, kernels and the whole call
    steps        nanoseconds, tables in shared memory and elsewhere
    throughput   Gaussian tables, one shared table; then priors (loads.py)

Kernels are timed by CUDA events around each launch, whole calls by the clock from
before the call to after a synchronisation; the best of some rounds, all streams
decoded and compared first. An image is 768 x 512 of 320 latents: 491,520 symbols.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from loads import Loads, gaussian_tables
from streams import put

from polycodec.cuda.device.batch import BatchDecoder, BatchEncoder
from polycodec.cuda.device.driver import Device

TABLES = ("0.85", "3.0", "5.0", "shared")
# And the part of an image that is coded: logits take room.
PRIORS = {
    "mixture of 1": 1,
    "mixture of 3": 1,
    "categorical of 16": 4,
    "categorical of 256": 16,
}


@dataclass(frozen=True)
class Sizes:
    """How much is coded."""

    image: int = 491_520  # symbols
    steps: int = 8192  # of one chunk
    batches: tuple[int, ...] = (1, 16, 128, 546)  # images; the last: 268 M symbols
    prior_batches: tuple[int, ...] = (1, 16, 64)


REHEARSAL = Sizes(image=640, steps=4, batches=(1, 2), prior_batches=(1, 2))


class HostEvent:
    """What torch.cuda.Event is, for a rehearsal without a device."""

    def __init__(self, *, enable_timing: bool) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: HostEvent) -> float:
        return (end.at - self.at) * 1e3


class Stopwatch:
    """Milliseconds of each kernel, by events around the launches of a device."""

    def __init__(self, device: Device) -> None:
        self.device, self.events = device, []
        self.cuda = device.torch.cuda if device.device.type == "cuda" else None
        self._launch = device.launch

    def __enter__(self) -> Stopwatch:
        def timed(kernel, *args):
            event = self.cuda.Event if self.cuda else HostEvent
            begin, end = event(enable_timing=True), event(enable_timing=True)
            begin.record()
            self._launch(kernel, *args)
            end.record()
            self.events.append((kernel, begin, end))

        self.device.launch = timed
        return self

    def __exit__(self, *_) -> None:
        del self.device.launch  # the class's own again

    def read(self) -> dict[str, float]:
        """Milliseconds by kernel since the last reading; waits for the device."""
        if self.cuda:
            self.cuda.synchronize()
        total: dict[str, float] = defaultdict(float)
        for kernel, begin, end in self.events:
            total[kernel.split("_")[0]] += begin.elapsed_time(end)
        self.events.clear()
        return total


def encode(device: Device, load, **options) -> list[bytes]:
    """One pass, whole call."""
    encoder = BatchEncoder(len(load[0]), device)
    put(encoder, load)
    return encoder.finish(**options)


def decode(device: Device, data: list[bytes], load, passes: int = 1):
    """All passes of equal length, whole call; returns the last one's symbols.

    A load is (symbols, indexes, tables), or (symbols, prior) of one pass.
    """
    decoder = BatchDecoder(data, device)
    if len(load) == 2:
        symbols = decoder.get_prior(load[1])
    else:
        for part in load[1].chunk(passes, dim=1):
            symbols = decoder.get(part, load[2])
    decoder.finish()
    return device.torch.as_tensor(symbols)


def best(device: Device, call: Callable[[], object], rounds: int) -> dict[str, float]:
    """Least milliseconds of each kernel, and of the whole call by the clock."""
    least: dict[str, float] = {}
    with Stopwatch(device) as watch:
        for _ in range(rounds + 1):
            watch.read()
            started = time.perf_counter()
            call()
            found = watch.read()
            found["call"] = (time.perf_counter() - started) * 1e3
            for name, value in found.items():
                least[name] = min(value, least.get(name, value))
    return least


def speed(device: Device, name: str, load, chunks: int | None, rounds: int) -> dict:
    """Code a load both ways, compare, and return its row of Gsym/s."""
    take = {"chunks": chunks}
    data = encode(device, load, **take)
    if not device.torch.equal(decode(device, data, load), load[0]):
        raise AssertionError(f"{name}, batch {len(load[0])}: symbols differ")
    coding = best(device, lambda: encode(device, load, **take), rounds)
    reading = best(device, lambda: decode(device, data, load), rounds)
    symbols = load[0].shape[0] * load[0].shape[1]
    kernels = sum(v for k, v in coding.items() if k != "call")
    row = {
        "load": name,
        "images": len(load[0]),
        "symbols": symbols,
        "chunks": chunks or "default",
        "bits": 8 * sum(map(len, data)) / symbols,
        "decode kernel, Gsym/s": symbols / reading["decode"] / 1e6,
        "decode call, Gsym/s": symbols / reading["call"] / 1e6,
        "encode kernel, Gsym/s": symbols / coding["encode"] / 1e6,
        "encode all kernels, Gsym/s": symbols / kernels / 1e6,
        "encode call, Gsym/s": symbols / coding["call"] / 1e6,
    }
    print(row, flush=True)
    return row


def throughput(device: Device, loads: Loads, rounds: int, sizes: Sizes) -> list[dict]:
    """Gsym/s of kernels and of calls for all loads of tables and batches."""
    return [
        speed(device, name, loads.make(name, batch, sizes.image), chunks, rounds)
        for name in TABLES
        for batch in sizes.batches
        for chunks in (None, 24)
    ]


def priors(device: Device, loads: Loads, rounds: int, sizes: Sizes) -> list[dict]:
    """The same of priors."""
    return [
        speed(
            device, name, loads.prior(name, batch, sizes.image // part), chunks, rounds
        )
        for name, part in PRIORS.items()
        for batch in sizes.prior_batches
        for chunks in (None, 24)
    ]


def steps(device: Device, loads: Loads, rounds: int, sizes: Sizes) -> list[dict]:
    """Nanoseconds a step, tables in shared memory and not, warps a processor."""
    rows, count = [], sizes.steps
    for limit, where in ((device.shared_limit, "shared"), (0, "global")):
        usual, device.shared_limit = device.shared_limit, limit
        try:
            for warps in (0, 1, 4, 16):  # 0: one warp on the whole device
                # Fresh tables: a set keeps the layout it was brought over with.
                loads.gaussian = gaussian_tables()[0]
                batch = max(1, warps * device.processors)
                load = loads.make("3.0", batch, 32 * count)
                data = encode(device, load, lanes=32, chunks=1)
                time_of = best(
                    device, lambda d=data, x=load: decode(device, d, x), rounds
                )
                coding = best(
                    device,
                    lambda x=load: encode(device, x, lanes=32, chunks=1),
                    rounds,
                )
                rows.append(
                    {
                        "tables": where,
                        "warps per processor": warps or "one in all",
                        "decode, ns": time_of["decode"] * 1e6 / count,
                        "encode, ns": coding["encode"] * 1e6 / count,
                    }
                )
                print(rows[-1], flush=True)
        finally:
            device.shared_limit = usual
    return rows


def latency(device: Device, loads: Loads, rounds: int, sizes: Sizes) -> list[dict]:
    """Milliseconds of one image: kernels, and the call with all copies and checks."""
    rows = []
    load = loads.make("3.0", 1, sizes.image)
    for chunks in (1, 4, 12, 24):
        parts = [part.contiguous() for part in load[0].chunk(10, dim=1)]
        planes = [part.contiguous() for part in load[1].chunk(10, dim=1)]
        encoder = BatchEncoder(1, device)
        for symbols, indexes in zip(parts, planes, strict=True):
            encoder.put(symbols, indexes, load[2])
        ten = encoder.finish(chunks=chunks)
        one = encode(device, load, chunks=chunks)
        single = best(device, lambda d=one: decode(device, d, load), 4 * rounds)
        tenfold = best(device, lambda d=ten: decode(device, d, load, 10), 4 * rounds)
        coding = best(
            device, lambda c=chunks: encode(device, load, chunks=c), 4 * rounds
        )
        rows.append(
            {
                "chunks": chunks,
                "bytes": len(one[0]),
                "decode kernel, ms": single["decode"],
                "decode call, ms": single["call"],
                "ten passes, kernels, ms": tenfold["decode"],
                "ten passes, call, ms": tenfold["call"],
                "encode kernel, ms": coding["encode"],
                "encode call, ms": coding["call"],
            }
        )
        print(rows[-1], flush=True)
    return rows


def measure(device: Device, *, rounds: int, sizes: Sizes | None = None) -> dict:
    """All of it; the cheap ones first."""
    loads, sizes = Loads(device), sizes or Sizes()
    return {
        "latency of one image": latency(device, loads, rounds, sizes),
        "time per step": steps(device, loads, rounds, sizes),
        "throughput": throughput(device, loads, rounds, sizes),
        "priors": priors(device, loads, rounds, sizes),
    }
