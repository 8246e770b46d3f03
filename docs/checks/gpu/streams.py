# SPDX-License-Identifier: Apache-2.0
"""Streams for check.py: golden and random ones, the CPU's bytes exactly, both ways.

    a batch    streams of passes; a pass: (symbols, indexes, tables) or (symbols, prior)
    priors     mixtures of 1 to 4 Gaussians with fractional means, categorical ones

Every pass has the same length, and tables or scales, in all streams of a batch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from polycodec.cuda import (
    BatchCategorical,
    BatchMixture,
    Categorical,
    Mixture,
    ScaleSet,
    StreamEncoder,
    TableSet,
    backend,
    crc32c,
)
from polycodec.cuda.device.batch import BatchDecoder, BatchEncoder
from polycodec.cuda.device.checksum import BatchChecksum
from polycodec.cuda.priors.mixture import MEAN_LIMIT

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden"
ALPHABETS = (1, 2, 3, 16, 17, 33, 100, 257)


def to(device, array: np.ndarray):
    """An array where the device's coders take it."""
    array = np.ascontiguousarray(array)
    if not hasattr(device, "torch"):
        return array
    return device.torch.from_numpy(array).to(device.device)


def host(values) -> np.ndarray:
    """The reverse."""
    return values.cpu().numpy() if hasattr(values, "cpu") else np.asarray(values)


def stacked(device, parts: tuple) -> list:
    """What a coder of a batch takes, of one pass of each stream: symbols, and how."""
    symbols = to(device, np.stack([part[0] for part in parts]).astype(np.int32))
    if len(parts[0]) == 3:
        indexes = to(device, np.stack([part[1] for part in parts]))
        return [symbols, indexes, parts[0][2]]
    priors = [part[1] for part in parts]
    if isinstance(priors[0], Categorical):
        logits = to(device, np.stack([prior.logits for prior in priors]))
        return [symbols, BatchCategorical(logits)]
    names = ("means", "indexes", "weights")
    planes = [
        to(device, np.stack([getattr(prior, name) for prior in priors]))
        for name in names
    ]
    return [symbols, BatchMixture(priors[0].scales, *planes)]


def put(encoder: BatchEncoder | StreamEncoder, one: list | tuple) -> None:
    """Append a pass to an encoder."""
    (encoder.put if len(one) == 3 else encoder.put_prior)(*one)


def same(
    device, batch: list[list], wanted: list[bytes] | None = None, **options
) -> bool:
    """Whether the device writes the CPU's bytes (``wanted``), and reads them back."""
    made = []
    for passes in batch:
        stream = StreamEncoder()
        for one in passes:
            put(stream, one)
        made.append(stream.finish(**options))
    encoder, decoder = BatchEncoder(len(batch), device), BatchDecoder(made, device)
    fine = wanted is None or made == wanted
    for parts in zip(*batch, strict=True):
        one = stacked(device, parts)
        put(encoder, one)
        get = decoder.get if len(one) == 3 else decoder.get_prior
        fine = fine and np.array_equal(host(get(*one[1:])), host(one[0]))
    decoder.finish()
    return fine and encoder.finish(**options) == made


def golden(device) -> list[str]:
    """Names of the golden streams that are not coded to their bytes and back."""
    wrong = []
    for name in ("coder.json", "priors.json"):
        data = json.loads((GOLDEN / name).read_text())
        for case in data["cases"]:
            passes = [_golden_pass(data, one) for one in case["passes"]]
            options = {key: case[key] for key in ("lanes", "chunks", "crc")}
            wanted = [bytes.fromhex(case["hex"])]
            if not same(device, [passes], wanted, **options):
                wrong.append(case["name"])
    return wrong


def _golden_pass(data: dict, one: dict) -> tuple:
    symbols = np.array(one["symbols"], np.int32)
    if "logits" in one:
        return symbols, Categorical(np.array(one["logits"], int))
    if "means" in one:
        parts = (np.array(one[name], int) for name in ("means", "indexes", "weights"))
        return symbols, Mixture(ScaleSet.from_arrays(data["scales"]), *parts)
    # One file has sets by name, the other a single one.
    own = data["tables"][one["tables"]] if "tables" in one else data["tables"]
    return symbols, np.array(one["indexes"], np.uint8), TableSet.from_arrays(own)


def random_tables(rng: np.random.Generator, n: int, streams: int) -> list[tuple]:
    """A pass of table indexes for each stream."""
    precision = int(rng.integers(8, 16))
    pmfs = [
        rng.gamma(0.3, size=rng.choice([1, 2, 9, 60, 200])) + 1e-9 for _ in range(5)
    ]
    tails = [p.sum() / 30 if rng.random() < 0.5 else None for p in pmfs]
    tables = TableSet.from_pmfs(pmfs, rng.integers(-99, 99, 5), precision, tails)
    kind, passes = rng.choice([np.uint8, np.int32]), []
    for _ in range(streams):
        indexes = rng.integers(0, 5, n).astype(kind)
        values = np.rint(rng.standard_cauchy(n) * 20).clip(-40_000, 40_000)
        passes.append((tables.clamp(values, indexes), indexes, tables))
    return passes


def random_mixtures(rng: np.random.Generator, n: int, streams: int) -> list[tuple]:
    """A pass of mixtures for each stream: near means mostly, far ones, extreme ones."""
    scales = ScaleSet.from_scales(np.exp(rng.uniform(-5, 5, rng.integers(1, 65))))
    shape, spread = (int(rng.integers(1, 5)), n), rng.choice([10, 300, 20_000])
    passes = []
    for _ in range(streams):
        means = np.rint(rng.normal(rng.normal(0, 1000), spread, shape))
        if rng.random() < 0.2:
            means = rng.choice([-MEAN_LIMIT, MEAN_LIMIT, 0, 31, 32, 33], shape)
        cuts = np.sort(rng.integers(0, 257, (shape[0] - 1, n)), axis=0)
        ends = [np.zeros((1, n), int), cuts, np.full((1, n), 256)]
        indexes = rng.integers(0, len(scales), shape)
        weights = np.diff(np.concatenate(ends), axis=0)
        means = means.clip(-MEAN_LIMIT, MEAN_LIMIT).astype(int)
        prior = Mixture(scales, means, indexes, weights)
        sigma = 2.0**21 / scales.reciprocal[indexes[0]]
        values = means[0] / 64 + rng.normal(0, 1, n) * sigma
        far = rng.random(n) < 0.02  # escapes
        values[far] = rng.choice([-32768, 32767, 0, 5000], far.sum())
        passes.append((prior.clamp(np.rint(values)), prior))
    return passes


def random_categoricals(rng: np.random.Generator, n: int, streams: int) -> list[tuple]:
    """A pass of logits for each stream: flat, peaked, extreme ones."""
    size, spread = int(rng.choice(ALPHABETS)), rng.choice([0, 20, 100, 3000, 20_000])
    n = min(n, 300_000 // size)
    passes = []
    for _ in range(streams):
        logits = np.rint(rng.normal(0, spread, (n, size))).clip(-32768, 32767)
        likely = logits.argmax(axis=1) if n else np.zeros(0, int)
        values = np.where(rng.random(n) < 0.5, likely, rng.integers(0, size, n))
        passes.append((values.astype(np.int32), Categorical(logits.astype(int))))
    return passes


def random_case(rng: np.random.Generator, largest: int) -> tuple[list[list], dict]:
    """A batch of up to 4 streams of up to 3 passes, and options."""
    batch: list[list] = [[] for _ in range(rng.integers(1, 5))]
    kinds = (random_tables, random_tables, random_mixtures, random_categoricals)
    for n in rng.integers(0, largest, rng.integers(1, 4)).tolist():
        made = kinds[rng.integers(len(kinds))](rng, n, len(batch))
        for passes, one in zip(batch, made, strict=True):
            passes.append(one)
    lanes = rng.choice([None, 0, 1, 2, 4, 8, 16, 32])
    chunks = 1 if lanes == 0 else rng.choice([None, 1, 2, 7, 40])
    crc = str(rng.choice(["none", "chunk"]))
    return batch, {"lanes": lanes, "chunks": chunks, "crc": crc}


def checksums(device, rng: np.random.Generator) -> bool:
    """Whether the device's CRC-32C is the CPU's, on from plane to plane."""
    check, planes = BatchChecksum(4, device), rng.integers(0, 256, (4, 99_999), "u1")
    check.update(to(device, planes))
    check.update(to(device, planes[:, :7]))
    sums = [crc32c(row[:7].tobytes(), crc32c(row.tobytes())) for row in planes]
    return check.values() == sums


def identity(device, cases: int) -> dict:
    """Count golden and random streams, and the ones that differ."""
    rng = np.random.default_rng(20)
    wrong, passes = 0, {"tables": 0, "mixtures": 0, "categorical": 0}
    for number in range(cases):
        # Every tenth is large enough for many warps and blocks.
        large = 60_000 if number % 10 == 9 and hasattr(device, "torch") else 300
        batch, options = random_case(rng, large)
        for one in batch[0]:
            mixture = isinstance(one[1], Mixture)
            kind = "mixtures" if mixture else "categorical"
            passes["tables" if len(one) == 3 else kind] += 1
        wrong += not same(device, batch, **options)
    bad = golden(device) + ["checksums"] * (not checksums(device, rng))
    result = {"golden, different": bad, "random": cases, "random, different": wrong}
    result |= {"passes": passes, "compared with": backend()}
    if bad or wrong:
        raise AssertionError(f"bytes differ: {result}")
    return result
