# SPDX-License-Identifier: Apache-2.0
"""Options are declared once: signature, refusals and the command line follow."""

from __future__ import annotations

import inspect
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import polycodec
from polycodec.codecs.files.kinds import KINDS
from polycodec.codecs.files.options import (
    ImageDecode,
    ImageEncode,
    SpeechEncode,
    merged,
)
from polycodec.codecs.stored import load_codec
from polycodec.codecs.zoo import resolve_device
from polycodec.errors import BitstreamError, InputError, ModelError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "v1" / "files" / "image-gray.plc"


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_signature_docstring_and_command_line_have_every_option(cli, direction) -> None:
    function = {"encode": polycodec.encode, "decode": polycodec.decode}[direction]
    classes = [vars(kind)[direction] for kind in KINDS.values()]
    shown = inspect.signature(function).parameters
    help_page = cli(direction, "--help")[1]
    assert len(merged(classes)) >= 6
    for name, field in merged(classes).items():
        assert shown[name].default == field.default, name
        assert shown[name].kind == inspect.Parameter.KEYWORD_ONLY
        assert shown[name].annotation is not inspect.Parameter.empty
        assert field.metadata["help"] in (function.__doc__ or "")
        assert f"--{name.rstrip('_').replace('_', '-')} " in help_page
        assert field.metadata["help"].split(",")[0] in " ".join(help_page.split())
    assert "options" not in shown


def test_types_of_the_signature() -> None:
    shown = inspect.signature(polycodec.encode).parameters
    assert shown["quality"].annotation == float | None
    assert shown["effort"].annotation is int and shown["alpha"].annotation is str


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quality": 101}, "quality is 101; expected a number from 0 to 100"),
        ({"quality": float("nan")}, "quality is nan"),
        ({"target_bpp": float("inf")}, "target-bpp is inf"),
        ({"target_size": -1}, "target-size is -1; expected a number of at least 0"),
        ({"effort": -1}, "effort is -1"),
        ({"alpha": "gone"}, "alpha is 'gone'; expected lossless or codec"),
        ({"device": "tpu"}, "'tpu' is no device"),
        ({"target_size": "20kB"}, "target-size is '20kB'; expected int"),
        ({"quality": "high"}, "quality is 'high'; expected float"),
        ({"effort": 2.5}, "effort is 2.5; expected int"),
        ({"effort": True}, "effort is True; expected int"),
        ({"psnr": "yes"}, "psnr is 'yes'; expected bool"),
        ({"model": 5}, "model is 5; expected str"),
        ({"checkpoint": b"run"}, "checkpoint is b'run'"),
        ({"device": None}, "device is None"),
        ({"quality": 5, "min_psnr": 30}, "quality and min-psnr exclude each other"),
    ],
)
def test_an_object_of_options_is_valid(given, message) -> None:
    with pytest.raises(UsageError, match=message):
        ImageEncode(**given)


def test_an_unknown_option_names_the_nearest(photo) -> None:
    with pytest.raises(UsageError, match=r"'qality'; nearest: quality"):
        polycodec.encode(photo, qality=60)
    with pytest.raises(UsageError, match=r"'regoin'; nearest: region"):
        polycodec.decode(plc_of(photo), regoin=(0, 0, 1, 1))


def plc_of(photo):
    """A .plc file of no chunk's worth: its header alone is read before the refusal."""
    from polycodec.codecs.files.container.file import Header, ImageGeometry, write_plc

    target = photo.with_suffix(".plc")
    header = Header("image/x", b"test", "image", ImageGeometry(8, 8))
    with target.open("wb") as file:
        write_plc(file, header, [b"x"])
    return target


def test_the_default_of_another_kind_is_no_request(photo) -> None:
    with pytest.raises(UsageError, match="channels is for speech, found images"):
        polycodec.encode(photo, channels="keep")
    with pytest.raises(UsageError, match="quality is 101"):  # channels is let through
        polycodec.encode(photo, channels="mix", quality=101)


def test_options_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SpeechEncode().quality = 5  # type: ignore[misc]


@pytest.mark.parametrize("region", ["0,0,5,5", (1, 2, 3), (0, 0, 5.5, 5), 4])
def test_a_region_is_four_whole_numbers(region) -> None:
    with pytest.raises(UsageError, match=r"region is .*; expected tuple\[int"):
        ImageDecode(region=region)
    assert ImageDecode(region=[np.int64(0), 0, 5, 5]).region


def test_bytes_in_and_out(photo, tiny_checkpoint) -> None:
    codec = load_codec(tiny_checkpoint)
    polycodec.encode(photo, photo.with_suffix(".plc"), codec=codec)
    coded = polycodec.encode(photo.read_bytes(), codec=codec)
    assert coded.data == photo.with_suffix(".plc").read_bytes()
    assert coded.input == coded.output == "-" and "data" not in coded.as_dict()
    back = polycodec.decode(memoryview(coded.data), codec=codec)
    assert Image.open(io.BytesIO(back.data)).size == Image.open(photo).size
    assert polycodec.info(coded.data)["quality"] == 50
    assert polycodec.verify(coded.data)["ok"]
    kept = io.BytesIO()
    assert polycodec.encode(photo.read_bytes(), kept, codec=codec).data == b""
    assert kept.getvalue() == coded.data


CLOSED = io.BytesIO()
CLOSED.close()


@pytest.mark.parametrize(
    "thing",
    [5, None, Image.new("L", (4, 4)), np.zeros(4), io.StringIO("x"), CLOSED],
)
def test_what_cannot_be_read_is_named(thing) -> None:
    for function in (polycodec.encode, polycodec.decode, polycodec.info):
        with pytest.raises(InputError, match=f"cannot read a {type(thing).__name__}"):
            function(thing, *[io.BytesIO()] * (function is not polycodec.info))


@pytest.mark.parametrize("target", [5, io.StringIO(), CLOSED, io.BytesIO().getbuffer()])
def test_what_cannot_be_written_to_is_named_before_the_work(target) -> None:
    words = f"cannot write to this {type(target).__name__}"
    with pytest.raises(UsageError, match=words):
        polycodec.encode(b"never looked at", target)
    with pytest.raises(UsageError, match=words):
        polycodec.decode(GOLDEN.read_bytes(), target)


def test_models_and_devices_that_are_none_are_named() -> None:
    with pytest.raises(UsageError, match="the model is 3"):
        polycodec.load(3)  # type: ignore[arg-type]
    for device in ("gpu", "mps", "xpu", "meta"):
        with pytest.raises(UsageError, match=f"'{device}' is no device"):
            resolve_device(device)


def test_a_gpu_that_is_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ModelError, match="found 2 of them"):
        resolve_device("cuda:2")


def test_what_is_no_compressed_signal_is_named(tiny_checkpoint) -> None:
    codec = load_codec(tiny_checkpoint)
    with pytest.raises(InputError, match="cannot decompress a str"):
        codec.decompress(["photo.plc"])  # type: ignore[list-item]
    with pytest.raises(BitstreamError, match=r"is for polycodec\.decode"):
        codec.decompress(GOLDEN.read_bytes())
    with pytest.raises(InputError, match="codes are a ndarray"):
        codec.decode_codes(np.zeros(4), 1)  # type: ignore[arg-type]
