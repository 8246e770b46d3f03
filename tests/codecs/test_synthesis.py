# SPDX-License-Identifier: Apache-2.0
"""The synthesis as a network of its own: for torch.export, and as an ONNX file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polycodec.codecs.families.implicit import ImplicitCodec
from polycodec.codecs.stored import load_codec
from polycodec.codecs.synthesis import Synthesis
from polycodec.errors import InputError, ModelError
from polycodec.registry import build

IMAGE, SPEECH = (1, 3, 50, 70), (1, 1, 3000)


def speech():
    """As speech/default, small."""
    torch.manual_seed(0)
    transform = {"name": "spectral", "widths": [8, 8], "depths": [1, 1]}
    codec = build(
        "codec/token",
        channels=4,
        transform=transform,
        quantizer={"name": "residual", "levels": 3, "codes": 8},
        entropy={"name": "tokens-static"},
    )
    codec.entropy.update()
    return codec.eval()


@pytest.fixture(params=["image", "speech"])
def case(request, tiny_checkpoint):
    """A codec, codes of a signal, its level, and what they decode to."""
    image = request.param == "image"
    codec = load_codec(tiny_checkpoint) if image else speech()
    x = torch.rand(
        IMAGE if image else SPEECH, generator=torch.Generator().manual_seed(1)
    )
    data = codec.compress(x if image else x - 0.5, 100)
    level = torch.tensor([float(codec.level_of(100))])
    return codec, codec.latents(data), level, codec.decompress(data)


def test_an_exported_program_makes_the_same_signal_of_any_size(case):
    codec, codes, level, wanted = case
    network = Synthesis(codec)
    cut = (..., *map(slice, wanted.shape[2:]))
    assert torch.allclose(network(codes, level)[cut], wanted, atol=1e-6)
    made = network.program().module()
    assert torch.allclose(made(codes, level)[cut], wanted, atol=1e-6)
    # Neither the batch nor the sizes are those that were traced, nor is the rate.
    some, low = codes[..., :1].repeat_interleave(3, 0), torch.tensor([0.0, 1.0, 1.5])
    low = low if codec.kind == "image" else torch.ones(3)
    assert torch.allclose(made(some, low), network(some, low), atol=1e-6)


def test_an_onnx_file_makes_the_same_signal(case, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    codec, codes, level, wanted = case
    path = Synthesis(codec).onnx(tmp_path / "a.onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"codes": codes.numpy(), "level": level.numpy()}
    given = {one.name: given[one.name] for one in session.get_inputs()}
    [found] = session.run(None, given)
    found = found[(..., *map(slice, wanted.shape[2:]))]
    assert np.abs(found - wanted.numpy()).max() < 1e-4
    with pytest.raises(InputError, match="exists"):
        Synthesis(codec).onnx(path)


def test_what_has_no_synthesis_of_its_own_is_refused():
    fitted = ImplicitCodec(network={"name": "coordinates"}, signal="image")
    with pytest.raises(ModelError, match="fits a network to each signal"):
        Synthesis(fitted)
