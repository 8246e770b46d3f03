# SPDX-License-Identifier: Apache-2.0
"""What hostile files do: a named error, nothing, another signal, or a crash?

    python docs/checks/hostile.py PHOTO SPEECH [CLIP] [--count 500] [--out table.json]
        [--priors WEIGHTS] [--features WEIGHTS]

Files of a photograph (with metadata and alpha; in tiles; gray of 16 bits), by the
default model and by those of tokens, and of speech (one chunk; two chunks of two
channels), of a clip if there is one, by a codec of images and by networks that are
fitted to it, and sets of parts of the photograph, also by RECOMBINER if there are
priors, and its features if there are weights for them, are changed at random, and
decoded, or classified:

    bytes           any byte, the checksums left as they are
    fields          a field of the header, the header's checksum repaired
    payload         bytes of a chunk, all checksums repaired
    records         bytes of a record, all checksums repaired
    places          two parts swapped, or one repeated, all checksums repaired

`named`: an error of ours. `harmless`: the pixels or samples of the undamaged file.
`renamed`: pictures of the undamaged set, under other names, as another encoder may have
meant. `silent`: others and no error, by what was changed. `crash`: any other exception,
which must not be. With the most memory beyond the undamaged file's, and the slowest.
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
from pathlib import Path

import numpy as np
import torch
from changes import WAYS, Parts
from PIL import Image

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.files.api import decode, encode
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.container.members import Index
from polycodec.codecs.files.features.classify import classify_all
from polycodec.codecs.files.features.encode import features_of
from polycodec.codecs.files.image.decode import read_plc
from polycodec.codecs.files.kinds import KINDS, kind_of, stored_kind
from polycodec.codecs.files.sets.pack import pack
from polycodec.codecs.files.sets.unpack import decode_members
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.video.chunks import geometry_of, video_geometry
from polycodec.codecs.files.video.colour import from_rgb, to_rgb
from polycodec.codecs.files.video.decode import Frames
from polycodec.codecs.files.video.read import open_video
from polycodec.codecs.stored import load_codec
from polycodec.errors import CodecError

NETWORKS = ("video/nerv-small", "video/hnerv-boost-small")
TOKENS = ("image/granular", "image/mcquic")


def decoded(codec: Codec, data: bytes) -> list[np.ndarray]:
    """Pixels and alpha of an image file, planes of a video's frames; bytes of a WAV."""
    kind = stored_kind(io.BytesIO(data))
    if kind == "set":
        return members(codec, data)
    if kind == "video":
        reader = Reader(io.BytesIO(data))
        geometry = video_geometry(reader)
        batches = Frames(codec, reader).of(range(geometry.frames))
        frames = [p for _, x in batches for p in from_rgb(x, geometry)]
        return [plane for planes in frames for plane in planes]
    if codec.kind == "features":
        return [classify_all([data], codec).numpy()]
    if codec.kind == "image":
        image = read_plc(Reader(io.BytesIO(data)), codec=codec)[0]
        return [image.pixels, np.zeros(0) if image.alpha is None else image.alpha]
    target = io.BytesIO()
    decode(io.BytesIO(data), target, codec=codec)
    return [np.frombuffer(target.getvalue(), np.uint8)]


def members(codec: Codec, data: bytes) -> list[np.ndarray]:
    """Names and pixels of the members of a set; the error of one that is damaged."""
    index = Index(Reader(io.BytesIO(data), tolerant=True))
    every = [index.open(name) for name in index.names]
    found = []
    for outcome in decode_members(every, codec):
        if isinstance(outcome, CodecError):
            raise outcome
        found.append(outcome[0].pixels)
    return [*found, np.array(index.names)]


def judge(codec: Codec, data: bytes, expected: list[np.ndarray]) -> str:
    """Decode ``data`` and name what happened."""
    try:
        found = decoded(codec, data)
    except CodecError:
        return "named"
    except Exception as error:  # what this check exists to find
        return f"crash: {type(error).__name__}: {str(error)[:80]}"
    if len(found) == len(expected) and all(map(np.array_equal, found, expected)):
        return "harmless"
    if stored_kind(io.BytesIO(data)) != "set":
        return "silent"
    known = all(any(np.array_equal(x, y) for y in expected[:-1]) for x in found[:-1])
    return "renamed" if known else "silent"


def files(codec: Codec, source: Path) -> dict[str, bytes]:
    """Files of one photograph or recording, in the forms that there are."""
    made = {}
    if codec.kind == "features":
        return {"one": features_of([source], codec)[0]}
    if kind_of(source) == "video":
        with tempfile.TemporaryDirectory() as folder:
            with open_video(source) as video:
                planes = [p for _, p in zip(range(10), video.frames(), strict=False)]
                geometry = geometry_of(video.info, 10, 10)
            small = to_rgb([p.planes for p in planes], geometry)[..., :64, :96]
            for k, x in enumerate(small):
                pixels = (255 * x).byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(f"{folder}/{k}.png")
            about = {"quality": 20, "gop": 4, "effort": 3 if codec.fitted else 0}
            made["3 groups"] = coded(codec, Path(folder), **about)
            if codec.fitted:  # at this rate quantizers of weights pack its tensors
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
            if "tile" in options and codec.tiling.reach is None:
                continue
            png = io.BytesIO()
            image.save(png, "PNG", exif=options.pop("exif", None))
            made[name] = coded(codec, png, **options)
        return made
    with open_speech(source) as speech:
        rate = speech.info.rate
        samples = np.concatenate(list(speech.blocks()))[:, 0]
    forms = ("one chunk", 3, 1), ("two chunks", 12, 2)
    for name, seconds, channels in forms[:1] if codec.fitted else forms:
        sound = np.resize(samples, (seconds * rate, 1)).repeat(channels, axis=1)
        wav = io.BytesIO()
        with wave.open(wav, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((sound * 32767).astype("<i2").tobytes())
        about = {"quality": 20, "channels": "keep"} | (
            {"effort": 2} if codec.fitted else {}
        )
        made[name] = coded(codec, wav, **about)
    return made


def sets(codec: Codec, source: Path) -> dict[str, bytes]:
    """A set of parts of a photograph, one with alpha, one of gray."""
    photo = Image.open(source).convert("RGB")
    with tempfile.TemporaryDirectory() as folder:
        for k, form in enumerate(("RGB", "RGB", "RGBA", "L", "RGB")):
            part = photo.crop((40 * k, 60, 40 * k + 32, 92)).convert(form)
            if form == "RGBA":
                part.putalpha(photo.convert("L").crop((0, 0, 32, 32)))
            part.save(f"{folder}/{k}.png")
        target = io.BytesIO()
        pack(folder, target, codec=codec, quality=50, effort=5 if codec.fitted else 0)
    return {"5 members": target.getvalue()}


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
    parser.add_argument("--priors", type=Path, help="of image/recombiner")
    parser.add_argument("--features", type=Path, help="of a codec of features")
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
    sources |= {name: (name, args.photo) for name in TOKENS}
    sources["speech/siren"] = "speech/siren", args.speech
    sources["set"] = KINDS["image"].model, args.photo
    sources["set by priors"] = "image/recombiner", args.priors and args.photo
    sources["features"] = "features/checked", args.features and args.photo
    weights = {"set by priors": args.priors, "features": args.features}
    for kind, (model, source) in sources.items():
        if source is None or not kind.startswith(args.only.partition(":")[0]):
            continue
        own = weights.get(kind)
        codec = load_codec(own, name=model) if own else zoo.load(model)
        make = sets if kind.startswith("set") else files
        for name, data in make(codec, source).items():
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
