# SPDX-License-Identifier: Apache-2.0
"""One codec in many threads, in copies, and in other processes."""

from __future__ import annotations

import copy
import os
import pathlib
import pickle
import random
import threading

import pytest
import torch
from tiny_speech import tiny_speech_codec

from polycodec.codecs.families.bayesian import BayesianCodec
from polycodec.codecs.families.implicit import ImplicitCodec
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.stored import load_codec
from polycodec.errors import UsageError
from polycodec.registry import build

SCRIPT = pathlib.Path(__file__).parents[1] / "shared_codec.py"
THREADS, CALLS = 8, int(os.environ.get("POLYCODEC_SHARED_CALLS", "4"))
NERV = {
    **{"name": "nerv", "strides": [2, 2], "stem": 8, "levels": 4},
    **{"expansion": 2, "least": 6, "base": 1.6},
}


def picture(height: int = 24, width: int = 40, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 4, 5, generator=draw)
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")


def sound(samples: int = 2000) -> torch.Tensor:
    return 0.5 * torch.sin(torch.arange(samples) / 30)[None, None]


@pytest.fixture(scope="module")
def image(tiny_checkpoint):
    return load_codec(tiny_checkpoint)


@pytest.fixture(scope="module")
def fitted() -> ImplicitCodec:
    torch.manual_seed(0)
    return ImplicitCodec(network=NERV, fit={"packed": False}, bpp=(8, 16)).eval()


@pytest.fixture(scope="module")
def sampled() -> BayesianCodec:
    """Untrained, with priors all the same."""
    torch.manual_seed(0)
    network = {
        **{"hidden": 4, "depth": 2, "fourier": 4, "top": 2, "encoding": 2},
        **{"latents": 2, "features": [2, 2], "up": [2, 2, 2]},
    }
    fit = {"steps": 4, "late": 1, "least": 1}
    made = BayesianCodec(piece=[8, 8], bpp=[2.0], network=network, fit=fit, bits=12)
    made.entropy.priors[0]["piece"].costs.fill_(0.2)  # as training would
    made.freeze(lambda codec: None)
    return made


def jobs(image, speech, fitted, sampled):
    """Calls of all sorts: name -> a function of nothing, whose results compare."""
    clip = torch.stack([picture(8, 12, seed=k)[0] for k in range(2)], 1)[None]
    one, other = picture(), picture(40, 24, seed=1)
    few = image.compress([one, other], 40)
    talk = speech.compress(sound(), 60)
    done = {
        "clip 2": lambda: fitted.compress(clip, 20, plan=Plan(steps=2)),
        "clip 5": lambda: fitted.compress(clip, 20, plan=Plan(steps=5)),
        "samples": lambda: sampled.compress(picture(8, 8), 50, plan=Plan(steps=4)),
        "speech": lambda: speech.compress([sound(), sound(1234)], 60),
        "speech back": lambda: speech.decompress(talk),
        "tokens": lambda: speech.latents(talk),
        "list back": lambda: image.decompress(few),
        "latents": lambda: image.latents(few[0], dequantized=True),
        "effort": lambda: list(
            image.image_encoder(bytes_of(one), 255, 0, effort=2).chunks(50)
        ),
    }
    for quality in (0, 30, 100):
        done[f"list {quality}"] = lambda q=quality: image.compress([one, other], q)
    return done


def bytes_of(x: torch.Tensor):
    return (255 * x[0]).byte().permute(1, 2, 0).numpy()


def plain(result) -> object:
    """Something to compare with ==."""
    if isinstance(result, torch.Tensor):
        return result.numpy().tobytes()
    return [plain(one) for one in result] if isinstance(result, list) else result


def test_threads_code_what_one_alone_codes(image, fitted, sampled):
    """Efforts and qualities of one call are not those of another.

    POLYCODEC_SHARED_CALLS=50 as a long run.
    """
    every = jobs(image, tiny_speech_codec(), fitted, sampled)
    wanted = {name: plain(call()) for name, call in every.items()}
    assert len(set(map(str, wanted.values()))) == len(wanted)
    wrong: list[str] = []

    def work(seed: int) -> None:
        turns = random.Random(seed)
        for name in turns.choices(list(every), k=CALLS):
            try:
                if plain(every[name]()) != wanted[name]:
                    wrong.append(f"{name}: other bytes")
            except Exception as error:
                wrong.append(f"{name}: {error!r}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, (len(wrong), wrong[:3])


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_code_the_same(how, image, fitted, sampled):
    speech = tiny_speech_codec()
    for codec, x in ((image, picture()), (speech, sound()), (sampled, picture(8, 8))):
        wanted = codec.compress(x)
        other = copied(codec, how)
        assert other.compress(x) == wanted
        assert (other.name, other.digest) == (codec.name, codec.digest)
        assert torch.equal(other.decompress(wanted), codec.decompress(wanted))
    assert copied(fitted, how).rates.levels == fitted.rates.levels


def copied(thing, how: str):
    if how == "deepcopy":
        return copy.deepcopy(thing)
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("name", ["spectral", "seanet", "pqmf"])
def test_transforms_of_speech_are_pickled(name):
    small = {"seanet": {"width": 2}, "pqmf": {"widths": [4, 4, 4]}}
    part = build(f"transform/{name}", channels=4, **small.get(name, {}))
    x = torch.rand(1, 1, 4 * part.stride) - 0.5
    other = pickle.loads(pickle.dumps(part))
    assert torch.equal(
        other.analyse(x, torch.zeros(1)), part.analyse(x, torch.zeros(1))
    )


def test_forked_and_spawned_processes_code_the_same(process, tiny_checkpoint):
    """Though the parent's threads hold locks, and its OpenMP team is not there."""
    done = process(tiny_checkpoint, python=(str(SCRIPT),))
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_latents_are_what_is_coded(image):
    given = [picture(), picture(40, 24, seed=1), picture(24, 40, 2)]
    few = image.compress(given, 70)
    first, second, third = image.latents(few)
    assert first.shape == third.shape != second.shape
    assert first.dtype == torch.float32  # around means, multiples of 1/16
    assert torch.equal(16 * first, (16 * first).round()) and first.abs().max() > 1
    level = image.level_of(70)
    made = image.decode_codes(first, level, (24, 40))
    assert torch.equal(made, image.decompress(few[0]))
    both = image.latents([few[0], few[2]], dequantized=True)
    assert both.dtype == torch.float32 and len(both) == 2
    assert torch.allclose(both[:1], image.dequantize(first, level))
    speech = tiny_speech_codec()
    tokens = speech.latents(speech.compress(sound(), 100))
    assert torch.equal(tokens, speech.encode_codes(sound(), 4).int())


@pytest.mark.parametrize(
    ("entropy", "whole"),
    [
        ({"name": "hyperprior", "prior": "mixture"}, True),
        ({"name": "hyperprior"}, False),
        ({"name": "factorized"}, True),
        ({"name": "sliced", "prior": "mixture", "slices": [8], "residual": [4]}, False),
    ],
)
def test_whole_latents_are_integers(entropy, whole):
    torch.manual_seed(0)
    small = {} if entropy["name"] == "factorized" else {"hyper": 4, "features": 8}
    codec = build(
        "codec/latent",
        channels=8,
        knots=2,
        transform={"name": "residual", "widths": [8, 8]},
        entropy={**entropy, **small},
    )
    codec.freeze(lambda c: c(torch.rand(2, 3, 64, 64), torch.rand(2)))
    found = codec.latents(codec.compress(picture(64, 64), 100))
    assert found.dtype == (torch.int32 if whole else torch.float32)
    level = codec.level_of(100)
    coded = codec.write(codec.encode_codes(picture(64, 64), level), level).codes
    assert torch.equal(found.float(), coded) and bool(found.any())


def test_a_plan_is_for_what_is_fitted(image):
    with pytest.raises(UsageError, match="leave the plan out"):
        image.compress(picture(), plan=Plan(steps=3))
