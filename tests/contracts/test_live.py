# SPDX-License-Identifier: Apache-2.0
"""The promise of codecs of sound: codes and packets do not depend on how samples come.

Whatever a codec is made of, of tokens: the pieces in which samples are pushed, signals
beside, threads, another signal before. Codecs that ship are held to it as well.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from live_codecs import live_codec, sound
from tiny_parts import cascade, case_id, cases, section
from tiny_speech import tiny_speech_codec

from polycodec.codecs import zoo
from polycodec.codecs.signals.live import Encoders
from polycodec.codecs.signals.packets import read_packets
from polycodec.codecs.transforms.base import SpeechTransform
from polycodec.errors import InputError, ModelError
from polycodec.registry import build, find

MADE = {"live": live_codec, "means": tiny_speech_codec}
SPEECH = [
    case
    for case in cases("transform/*")
    if issubclass(find(case[0]), SpeechTransform) and "test-" not in case[0]
]
SHIPPED = [  # what is fitted to each sound has no packets
    card["name"]
    for card in zoo.models()
    if card["modality"] == "speech" and not card.get("fitted")
]


def codec_of(case):
    """A codec of a name, or around a transform."""
    if isinstance(case, str):
        return MADE[case]() if case in MADE else zoo.load(case)
    name, options = case
    transform = {**section("transform", name.partition("/")[2]), **options}
    torch.manual_seed(0)
    codec = build(
        "codec/token",
        channels=8,
        block=3,
        transform=transform,
        quantizer={"name": "residual", "levels": 2, "codes": 8},
        entropy={"name": "tokens-static"},
    ).eval()
    with torch.no_grad():
        x = torch.from_numpy(sound(32 * codec.stride))[None, None]
        codec.quantizer.initialise(codec.analyse(x, 2).transpose(1, 2).flatten(0, 1))
    codec.entropy.update()
    return codec


@pytest.fixture(params=[*MADE, *SPEECH], ids=case_id, scope="module")
def codec(request):
    return codec_of(request.param)


def pushed(codec, x: np.ndarray, steps, **options) -> list[bytes]:
    encoder, found, at = codec.encoder(100, **options), [], 0
    while at < len(x):
        step = next(steps)
        found += encoder.push(x[at : at + step])
        at += step
    return found + encoder.flush()


def check(codec, seconds: float) -> None:
    """AssertionError unless the promise holds for so much of a sound."""
    rng = np.random.default_rng(3)
    x, hop = sound(round(seconds * codec.signal.rate) + 7), codec.stride
    whole = pushed(codec, x, iter([len(x)]))
    sizes = {
        "a frame": iter(lambda: hop, 0),
        "random": iter(lambda: int(rng.integers(1, 4 * hop)), 0),
    }
    for name, steps in sizes.items():
        assert pushed(codec, x, steps) == whole, name
    codes = codec.encode_codes(torch.from_numpy(x)[None, None], codec.levels)
    parts = [part for part, _ in read_packets(codec, whole)]
    assert torch.equal(torch.cat(parts, dim=1), codes[0])
    batch = np.stack([sound(len(x), 1), x, sound(len(x), 2)])
    together = Encoders(codec, 100, count=3)
    both = zip(together.push(batch), together.flush(), strict=True)
    assert [a + b for a, b in both][1] == whole
    decoder = codec.decoder()
    y = torch.cat([*(decoder.push(packet) for packet in whole), decoder.flush()])
    expected = codec.decode_codes(codes, codec.levels, (len(y),))[0, 0]
    assert len(y) == codes.shape[2] * hop
    assert torch.allclose(y, expected, atol=1e-5)


def test_packets_do_not_depend_on_how_samples_come(codec):
    check(codec, 11.5 * codec.stride / codec.signal.rate)


def test_a_codec_ends_a_signal_where_it_is_cut_and_nowhere_else(codec):
    """Frames that look beyond a cut see silence there; all others are the whole's."""
    hop = codec.stride
    context = codec.transform.contexts()[0]
    # Statistics over all time are those of a block, whose end the cut is.
    ahead = context[1] if context else codec.signal.block
    x = sound(30 * hop)
    whole, cut = (
        codec.encode_codes(torch.from_numpy(part)[None, None], codec.levels)
        for part in (x, x[: 20 * hop])
    )
    assert torch.equal(cut[..., : 20 - ahead], whole[..., : 20 - ahead])


@pytest.mark.parametrize("name", SHIPPED)
def test_codecs_that_ship_keep_it(name):
    """Of blocks of a second: what is left of the second behind the first one, too."""
    check(zoo.load(name), 1.3)


def test_packets_of_numbers_that_are_no_tokens_are_refused():
    codec = build(
        "codec/latent-speech",
        channels=8,
        levels=2,
        transform=section("transform", "spectral"),
        entropy=section("entropy", "autoregressive"),
    ).eval()
    codec.entropy.update()
    for made in (codec.encoder, codec.decoder):
        with pytest.raises(ModelError, match="take a codec of the token family"):
            made()


def test_images_have_no_packets():
    codec = build("codec/token", **{k: v for k, v in cascade().items() if k != "name"})
    with pytest.raises(InputError, match="expected speech"):
        codec.encoder()
