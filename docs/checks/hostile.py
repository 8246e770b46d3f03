# SPDX-License-Identifier: Apache-2.0
"""What hostile files do: a named error, nothing, another signal, or a crash?

    python docs/checks/hostile.py PHOTO SPEECH [CLIP] [--count 500] [--out table.json]

Files of a photograph (with metadata and alpha; in tiles; gray of 16 bits) and of speech
(one chunk; two chunks of two channels), and of a clip if there is one, by a codec of
images and by networks that are fitted to it, are changed at random, and decoded:

    bytes           any byte, the checksums left as they are
    fields          a field of the header, the header's checksum repaired
    payload         bytes of a chunk, all checksums repaired
    records         bytes of a record, all checksums repaired
    places          two parts swapped, or one repeated, all checksums repaired

`named`: an error of ours. `harmless`: the pixels or samples of the undamaged file.
`silent`: others and no error, by what was changed. `crash`: any other exception, which
must not be. With the most memory beyond what the undamaged file took, and the slowest.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.files.api import decode, encode
from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import Cursor, Varint, get_rows
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.image.decode import read_plc
from polycodec.codecs.files.kinds import KINDS, kind_of, stored_kind
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.video.chunks import geometry_of, video_geometry
from polycodec.codecs.files.video.colour import from_rgb, to_rgb
from polycodec.codecs.files.video.decode import Frames
from polycodec.codecs.files.video.read import open_video
from polycodec.cuda import crc32c
from polycodec.errors import CodecError

NETWORKS = ("video/nerv-small", "video/hnerv-boost-small")
NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 320, 512, 1000, 4095]
NUMBERS += [16000, 44100, 65535, *(1 << k for k in range(16, 57, 4)), (1 << 48) - 1]


def varint(value: int) -> bytes:
    """A number as the format writes it."""
    out = bytearray()
    Varint(0, 1 << 62).put(out, value)
    return bytes(out)


class Parts:
    """A file in pieces: the fields of its header, its records, its chunks."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[str, str, bytes]] = []
        cursor, values = Cursor(data), {"older": False}
        for table in (layout.PREFIX, layout.START):
            self._take(cursor, table, values)
        self._take(cursor, layout.GEOMETRIES[values["kind"]][1], values)
        self._take(cursor, layout.MIDDLE, values)
        self.records = values["records"]
        sizes = []
        for k in range(self.records):
            self._take(cursor, layout.RECORD, row := dict(values), f"record {k} ")
            sizes.append(row["size"])
        for k in range(Reader(io.BytesIO(data)).n_chunks):
            self._take(cursor, layout.CHUNK, row := dict(values), f"chunk {k} ")
            sizes.append(row["size"])
        at, self.parts = cursor.position + 4, []
        for size in sizes:
            self.parts.append(data[at : at + size])
            at += size

    def _take(self, cursor: Cursor, rows, values: dict, owner: str = "") -> None:
        for row in rows:
            start = cursor.position
            get_rows(cursor, (row,), values)
            if cursor.position > start:
                kind = type(row.coding).__name__
                taken = cursor.data[start : cursor.position]
                self.fields.append((owner + row.name, kind, taken))

    def joined(self, kept: str = "") -> bytes:
        """The file, sizes and checksums made right; ``kept``: a field left as it is."""
        body, prefix, part = b"", b"", -1
        for name, _, data in self.fields:
            if name in ("magic", "version", "form"):
                prefix += data
                continue
            if name == "header size":
                continue
            part += name.endswith(" size")
            if name.endswith(" size") and name != kept:
                data = varint(len(self.parts[part]))
            if name.endswith(" crc") and name != kept:
                data = crc32c(self.parts[part]).to_bytes(4, "little")
            body += data
        size = [d for n, _, d in self.fields if n == "header size"]
        if size:
            prefix += size[0] if kept == "header size" else varint(len(body) + 4)
        seal = b"" if size else crc32c(self.parts[-1]).to_bytes(4, "little")
        head = prefix + body
        return head + crc32c(head + seal).to_bytes(4, "little") + b"".join(self.parts)


Change = Callable[[bytes, random.Random], tuple[str, bytes]]


def scrambled(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, set, cut, removed, inserted or swapped."""
    out, kind, n = bytearray(data), rng.random(), max(1, len(data))
    at, more = rng.randrange(n), rng.randrange(1, 9)
    if not data or kind > 0.9:
        out[at:at] = rng.randbytes(more)
    elif kind < 0.5:
        out[at] ^= 1 << rng.randrange(8)
    elif kind < 0.6:
        out[at] = rng.randrange(256)
    elif kind < 0.7:
        del out[at:]
    elif kind < 0.8:
        del out[at : at + more]
    else:
        there = rng.randrange(n)
        out[at : at + more], out[there : there + more] = (
            out[there : there + more],
            out[at : at + more],
        )
    return bytes(out)


def in_bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Any byte of the file."""
    return "bytes", scrambled(data, rng)


def in_fields(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One field of the header."""
    parts = Parts(data)
    k = rng.randrange(2, len(parts.fields))
    name, kind, old = parts.fields[k]
    if kind in ("Varint", "Quality"):
        value = Varint(0, 1 << 62).get(Cursor(old))
        near = max(0, value + rng.choice([-320, -64, -16, -2, -1, 1, 2, 16, 64, 320]))
        new = varint(rng.choice([rng.choice(NUMBERS), near, near, 2 * value]))
    elif kind == "Name":
        new = rng.choice([b"\x81", b"\x82", b"\x83", b"\x0d../etc/passwd", b"\x00"])
    else:
        new = scrambled(old, rng)
    parts.fields[k] = (name, kind, new)
    return name.split(" ")[-1] if "chunk" in name else name, parts.joined(kept=name)


def in_chunk(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Bytes of a chunk."""
    parts = Parts(data)
    k = rng.randrange(parts.records, len(parts.parts))
    parts.parts[k] = scrambled(parts.parts[k], rng)
    return "chunk", parts.joined()


def in_record(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Bytes of a record."""
    parts = Parts(data)
    k = rng.randrange(parts.records)
    parts.parts[k] = scrambled(parts.parts[k], rng)
    return Reader(io.BytesIO(data)).directory[k]["type"], parts.joined()


def in_places(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Two parts change places, or one is there twice."""
    parts = Parts(data)
    a, b = rng.sample(range(len(parts.parts)), 2)
    old = parts.parts[b]
    parts.parts[b] = parts.parts[a]
    if rng.random() < 0.7:
        parts.parts[a] = old
    return "chunks" if min(a, b) >= parts.records else "records", parts.joined()


WAYS: dict[str, Change] = {
    "bytes": in_bytes,
    "fields": in_fields,
    "payload": in_chunk,
    "records": in_record,
    "places": in_places,
}


def decoded(codec: Codec, data: bytes) -> list[np.ndarray]:
    """Pixels and alpha of an image file, planes of a video's frames; bytes of a WAV."""
    kind = stored_kind(io.BytesIO(data))
    if kind == "video":
        reader = Reader(io.BytesIO(data))
        geometry = video_geometry(reader)
        batches = Frames(codec, reader).of(range(geometry.frames))
        frames = [p for _, x in batches for p in from_rgb(x, geometry)]
        return [plane for planes in frames for plane in planes]
    if codec.kind == "image":
        image = read_plc(Reader(io.BytesIO(data)), codec=codec)[0]
        return [image.pixels, np.zeros(0) if image.alpha is None else image.alpha]
    target = io.BytesIO()
    decode(io.BytesIO(data), target, codec=codec)
    return [np.frombuffer(target.getvalue(), np.uint8)]


def judge(codec: Codec, data: bytes, expected: list[np.ndarray]) -> str:
    """Decode ``data`` and name what happened."""
    try:
        found = decoded(codec, data)
    except CodecError:
        return "named"
    except Exception as error:  # what this check exists to find
        return f"crash: {type(error).__name__}: {str(error)[:80]}"
    same = len(found) == len(expected) and all(map(np.array_equal, found, expected))
    return "harmless" if same else "silent"


def files(codec: Codec, source: Path) -> dict[str, bytes]:
    """Files of one photograph or recording, in the forms that there are."""
    made = {}
    if kind_of(source) == "video":
        with tempfile.TemporaryDirectory() as folder:
            with open_video(source) as video:
                planes = [p for _, p in zip(range(10), video.frames(), strict=False)]
                geometry = geometry_of(video.info, 10, 10)
            small = to_rgb([p.planes for p in planes], geometry)[..., :64, :96]
            for k, x in enumerate(small):
                pixels = (255 * x).byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(f"{folder}/{k}.png")
            about = {"quality": 20, "gop": 4, "effort": 3 if codec.plan else 0}
            made["3 groups"] = coded(codec, Path(folder), **about)
            if codec.plan:  # at this rate quantizers of weights pack its tensors
                about |= {"quality": 70, "gop": 10}
                made["packed"] = coded(codec, Path(folder), **about)
        return made
    if codec.kind == "image":
        photo = Image.open(source).convert("RGB").crop((0, 0, 200, 136))
        exif = Image.Exif()
        exif[0x010E] = "a description"
        clear = photo.convert("RGBA")
        clear.putalpha(photo.convert("L"))
        deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
        for name, image, options in (
            ("plain", photo, {"quality": 20}),
            ("alpha, EXIF", clear, {"quality": 40, "exif": exif}),
            ("tiles", photo, {"quality": 30, "tile": 64}),
            ("gray, 16 bits", deep, {"quality": 30}),
        ):
            png = io.BytesIO()
            image.save(png, "PNG", exif=options.pop("exif", None))
            made[name] = coded(codec, png, **options)
        return made
    with open_speech(source) as speech:
        rate = speech.info.rate
        samples = np.concatenate(list(speech.blocks()))[:, 0]
    forms = ("one chunk", 3, 1), ("two chunks", 12, 2)
    for name, seconds, channels in forms[:1] if codec.plan else forms:
        sound = np.resize(samples, (seconds * rate, 1)).repeat(channels, axis=1)
        wav = io.BytesIO()
        with wave.open(wav, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((sound * 32767).astype("<i2").tobytes())
        about = {"quality": 20, "channels": "keep"} | (
            {"effort": 2} if codec.plan else {}
        )
        made[name] = coded(codec, wav, **about)
    return made


def coded(codec: Codec, source: io.BytesIO | Path, **options: object) -> bytes:
    """The file of one source."""
    if isinstance(source, io.BytesIO):
        source.seek(0)
    target = io.BytesIO()
    encode(source, target, codec=codec, **options)
    return target.getvalue()


def memory() -> float:
    """The most memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tried(codec: Codec, data: bytes, count: int, rng: random.Random) -> dict:
    """Verdicts by the way of changing, what was silent, memory and time."""
    expected, table = decoded(codec, data), {}
    parts = Parts(data)
    before, slowest, silent = memory(), 0.0, Counter()
    for way, change in WAYS.items():
        if way == "records" and not parts.records:
            continue
        if way == "places" and len(parts.parts) < 2:
            continue
        verdicts: Counter[str] = Counter()
        for _ in range(count):
            what, changed = change(data, rng)
            if changed == data:
                verdicts["unchanged"] += 1
                continue
            begin = time.process_time()
            verdict = judge(codec, changed, expected)
            slowest = max(slowest, time.process_time() - begin)
            verdicts[verdict] += 1
            silent[f"{way}: {what}"] += verdict == "silent"
        table[way] = dict(verdicts)
    return {
        "bytes": len(data),
        **table,
        "silent": dict(+silent),
        "memory MB": round(memory() - before, 1),
        "slowest s": round(slowest, 2),
    }


NAMES = (("image", "photo"), ("speech", "speech"), ("video", "clip"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="files whose name begins so")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict] = {}
    sums: Counter[str] = Counter()
    sources = {kind: (KINDS[kind].model, getattr(args, name)) for kind, name in NAMES}
    sources |= {name: (name, args.clip) for name in NETWORKS}
    sources["speech/siren"] = "speech/siren", args.speech
    for kind, (model, source) in sources.items():
        if source is None or not kind.startswith(args.only.partition(":")[0]):
            continue
        codec = zoo.load(model)
        for name, data in files(codec, source).items():
            if not f"{kind}: {name}".startswith(args.only):
                continue
            rng = random.Random(args.seed)
            row = tried(codec, data, args.count, rng)
            table[f"{kind}: {name}"] = row
            for way in WAYS:
                sums.update(row.get(way, {}))
            print(f"{kind}: {name}", json.dumps(row), flush=True)
    table["all"] = {"tried": sum(sums.values()), **sums}
    print("all", json.dumps(table["all"]))
    if args.out:
        args.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
