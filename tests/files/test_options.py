# SPDX-License-Identifier: Apache-2.0
"""Options are declared once: signature, refusals and the command line follow."""

from __future__ import annotations

import inspect

import pytest

import polycodec
from polycodec.codecs.files.kinds import KINDS
from polycodec.codecs.files.options import ImageEncode, SpeechEncode, merged
from polycodec.errors import UsageError


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
        assert f"--{name.replace('_', '-')} " in help_page
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
