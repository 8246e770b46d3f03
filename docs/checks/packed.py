# SPDX-License-Identifier: Apache-2.0
"""Packed weights: what allocation gains, and what damaged files do.

    python docs/checks/packed.py allocation image/default PHOTOS --bits 3 4 5
    python docs/checks/packed.py damage image/default --count 300 --ways payload

`allocation`: at each number of bits a file whose tensors' steps are the same part of
their root mean square (E8), as near to the size as quarter octaves allow, and one of no
more bytes that is allocated by what was measured on PHOTOS: sizes, losses, bits by
layer and by part.

`damage`: files changed at random are loaded, in a process that may take 6 GB more:

    bytes       any byte of the file
    payload     bytes of the coded tensors
    entries     what is said of a tensor: its name, way, type, sizes
    config      a number or a word of the config that builds the codec

`named`: an error of ours. `harmless`: the undamaged tensors. `another`: other numbers,
in a file with another digest: another model. `crash`: any other exception, which must
not be.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from polycodec.codecs import zoo
from polycodec.codecs.packed import matrix
from polycodec.codecs.quantizers.weights.allocation import Menu, Priced
from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.codecs.stored import CODED, fill, read_weights
from polycodec.errors import CodecError
from polycodec.registry import build
from polycodec.train.shrink.run import panel_in
from polycodec.train.shrink.shrinker import MEASURED, Goal, Shrinker

NUMBERS = (-1, 0, 1, 2, 3, 7, 255, 4096, 65537, 1 << 24, 1 << 31, 1 << 40, 1 << 62)
WORDS = ("", "plain", "same", "scalar", "trellis", "float16", "int64", "../../etc")
MORE = 6 << 30  # bytes that a damaged file may make a process take


def alike(shrinker: Shrinker, menu: Menu, size: float) -> Menu:
    """The menu in which steps of large tensors are one part of their rms, about a size.

    What small tensors take, for which nothing was measured, is that of ``menu``.
    """
    lattice, best = build("weights/lattice"), (math.inf, menu)
    large = {
        name: matrix(shrinker.tensors[name])
        for name in menu
        if shrinker.tensors[name].numel() > MEASURED and shrinker.tensors[name].any()
    }
    middle = {
        k: round(4 * math.log2(float((w**2).mean() ** 0.5))) for k, w in large.items()
    }
    offers = {
        k: {o.setting: o.bytes for o in lattice.offers(w)} for k, w in large.items()
    }
    for finer in range(-30, 4):
        found, total = dict(menu), 0.0
        for name in large:
            setting = middle[name] + finer
            cost = offers[name].get(setting, math.inf)
            found[name] = [Priced(Choice("lattice", setting), cost, 0.0)]
        total = sum(offered[0].bytes for offered in found.values() if offered)
        best = min(best, (abs(total - size), found), key=lambda one: one[0])
    return best[1]


def allocation(weights: str, data: str, bits: list[float]) -> None:
    """Print both ways at each number of bits a parameter."""
    path = zoo.weights_at(weights)
    with tempfile.TemporaryDirectory() as folder:
        panel = panel_in(data, path, folder, lambda text: None).at_two()
        shrinker = Shrinker(path, panel, lambda text: None)
        menu = shrinker.menu()
        part = Path(folder) / "a.safetensors"
        for each in bits:
            same = alike(shrinker, menu, each * shrinker.parameters / 8)
            shrinker.menu = lambda same=same: same  # type: ignore[method-assign]
            found = shrinker.write(part, Goal(bits=32))
            print(json.dumps({"way": "steps alike", **found}), flush=True)
            shrinker.menu = lambda: menu  # type: ignore[method-assign]
            found = shrinker.write(part, Goal(size=found["bytes"]))
            print(json.dumps({"way": "allocated", **found}), flush=True)
            by_layer(part, shrinker)


def by_layer(path: Path, shrinker: Shrinker) -> None:
    """Print bits a parameter of each measured layer, and of each part."""
    parts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with safe_open(str(path), framework="pt") as file:
        entries = json.loads(file.metadata()["config"])[CODED]["tensors"]
    for name, (how, _, shape, size, *_) in entries.items():
        count = math.prod(shape)
        if name not in shrinker.names or not count:
            continue
        total = parts[".".join(name.split(".")[:3])]
        total[0], total[1] = total[0] + 8 * size, total[1] + count
        if count > MEASURED:
            print(f"    {name:44} {8 * size / count:5.2f} {how}")
    for name, (size, count) in parts.items():
        print(f"  {name:32} {size / count:5.2f} bits of {count}", flush=True)


def scrambled(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, set, cut, removed or inserted."""
    out, kind, at = bytearray(data), rng.random(), rng.randrange(max(1, len(data)))
    if not data or kind > 0.9:
        out[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind < 0.5:
        out[at] ^= 1 << rng.randrange(8)
    elif kind < 0.7:
        out[at : at + 8] = rng.randbytes(8)
    elif kind < 0.8:
        del out[at:]
    else:
        del out[at : at + rng.randrange(1, 9)]
    return bytes(out)


def changed(value: Any, rng: random.Random) -> Any:
    """Another number, word or list in the place of one."""
    kind = rng.random()
    if kind < 0.1:
        return rng.choice([None, True, "word", 0.5, [], {}, [3], -1, "\0", math.inf])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice([*NUMBERS, value + 1, value - 1, value * 2, value // 2])
    if isinstance(value, str):
        return rng.choice([*WORDS, value[:-1], value + "x"])
    if isinstance(value, list) and value:
        k, out = rng.randrange(len(value)), list(value)
        if kind < 0.2:
            return out[:k] + out[k + 1 :]
        return [*out[:k], changed(out[k], rng), *out[k + 1 :]]
    if isinstance(value, dict) and value:
        key = rng.choice(sorted(value))
        if kind < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: changed(value[key], rng)}
    return rng.choice(NUMBERS)


Change = Callable[[dict[str, Any], bytes, random.Random], bytes | None]


def in_payload(config: dict[str, Any], data: bytes, rng: random.Random) -> bytes:
    """Bytes of the coded tensors."""
    return scrambled(data, rng)


def in_entries(config: dict[str, Any], data: bytes, rng: random.Random) -> bytes:
    """What is said of one tensor, or of coding."""
    about = config[CODED]
    entries = about["tensors"]
    name, kind = rng.choice(sorted(entries)), rng.random()
    if kind < 0.8:
        entries[name] = changed(entries[name], rng)
    elif kind < 0.9:
        entries[changed(name, rng)] = entries.pop(name)
    else:
        config[CODED] = changed(about, rng)
    return data


def in_config(config: dict[str, Any], data: bytes, rng: random.Random) -> bytes:
    """A value of the config."""
    key = rng.choice(sorted(k for k in config if k != CODED))
    config[key] = changed(config[key], rng)
    return data


INSIDE: dict[str, Change] = {
    "payload": in_payload,
    "entries": in_entries,
    "config": in_config,
}


def judge(path: Path, expected: dict[str, torch.Tensor]) -> str:
    """Load a file and name what happened."""
    try:
        codec, config, found = read_weights(path)
        fill(codec, found, config, path)
    except CodecError:
        return "named"
    except Exception as error:  # what this check exists to find
        *_, last = traceback.extract_tb(error.__traceback__)
        return f"crash: {type(error).__name__}: {str(error)[:80]}, {last.name}"
    same = found.keys() == expected.keys() and all(
        torch.equal(found[k], v) for k, v in expected.items()
    )
    return "harmless" if same else "another"


def damage(weights: Path, count: int, seed: int, ways: list[str]) -> None:
    """Print verdicts by the way of changing, the slowest, and memory."""
    expected = read_weights(weights)[2]
    whole = weights.read_bytes()
    with safe_open(str(weights), framework="pt") as file:
        text = file.metadata()["config"]
        data = file.get_tensor(CODED).numpy().tobytes()
    taken = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (taken + MORE, taken + MORE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        for way in ways:
            verdicts: Counter[str] = Counter()
            rng = random.Random(seed)
            slowest = 0.0
            for _ in range(count):
                if way == "bytes":
                    path.write_bytes(scrambled(whole, rng))
                else:
                    config = json.loads(text)
                    coded = bytearray(INSIDE[way](config, data, rng)) or bytearray(1)
                    tensors = {CODED: torch.frombuffer(coded, dtype=torch.uint8)}
                    save_file(tensors, str(path), {"config": json.dumps(config)})
                begin = time.process_time()
                verdicts[judge(path, expected)] += 1
                slowest = max(slowest, time.process_time() - begin)
            more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            row = {**verdicts, "slowest s": round(slowest, 2), "memory MB": more >> 10}
            print(way, json.dumps(row), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("allocation", "damage"))
    parser.add_argument("weights")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--bits", type=float, nargs="+", default=[3.0, 4.0, 5.0])
    parser.add_argument("--count", type=int, default=300)
    ways = ["bytes", *INSIDE]
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.action == "damage":
        damage(zoo.weights_at(args.weights), args.count, args.seed, args.ways)
    elif args.data is None:
        parser.error("allocation needs a folder of pictures or recordings")
    else:
        allocation(args.weights, args.data, args.bits)


if __name__ == "__main__":
    main()
