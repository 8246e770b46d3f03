# SPDX-License-Identifier: Apache-2.0
"""Prebuilt CUDA kernels: those of today's sources are taken, anything else is not.

POLYCODEC_CUDA_TARGETS=all compiles each again, where NVRTC is the one that made them,
and compares every byte.
"""

from __future__ import annotations

import functools
import lzma
import os

import pytest

from polycodec.cuda.device import driver, nvrtc, prebuild
from polycodec.errors import UsageError

ALL = os.environ.get("POLYCODEC_CUDA_TARGETS") == "all"


def capability(target: str) -> tuple[int, int]:
    number = int(target[3:])
    return number // 10, number % 10


@functools.cache
def version() -> str:
    try:
        return "{}.{}".format(*nvrtc.compiler().version)
    except UsageError:
        return ""


@pytest.mark.parametrize("target", prebuild.TARGETS)
def test_the_files_kept_are_of_these_sources(target):
    cubin = prebuild.image(capability(target))
    assert cubin is not None, "run 'python -m polycodec.cuda.device.prebuild'"
    assert cubin[:4] == b"\x7fELF"
    path = prebuild.FOLDER / f"{target}.kernels"
    assert path.stat().st_size < 1 << 17
    maker = path.read_bytes().partition(b"\n")[0].decode().split()[-1]
    if ALL and maker == version():
        assert nvrtc.compiler().compile(target)[0] == cubin


def test_no_other_files_are_kept():
    kept = {path.stem for path in prebuild.FOLDER.iterdir()}
    assert kept == set(prebuild.TARGETS)


class FakeCompiler:
    version = (13, 7)

    def __init__(self, cubin: bytes) -> None:
        self.cubin = cubin

    def capabilities(self):
        return [75, 90]

    def compile(self, target):
        return self.cubin, ""


class FakeDriver:
    """Loads what it is given, or refuses what is not ``only``."""

    def __init__(self, only: bytes | None = None) -> None:
        self.only, self.loaded = only, []

    def cuModuleLoadData(self, module, image):
        self.loaded.append(image)
        return 0 if self.only in (None, image) else 300


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A file as `write` leaves it, and the cubin in it; the cache is elsewhere."""
    cubin = b"\x7fELF" + bytes(range(256)) * 40
    monkeypatch.setattr(nvrtc, "compiler", lambda: FakeCompiler(cubin))
    monkeypatch.setenv("POLYCODEC_CACHE", str(tmp_path / "cache"))
    size = prebuild.write("sm_90", tmp_path / "kept")
    path = tmp_path / "kept" / "sm_90.kernels"
    assert path.stat().st_size == size
    find = functools.partial(prebuild.image, folder=path.parent)
    monkeypatch.setattr(prebuild, "image", find)
    return path, cubin


def loads(monkeypatch, fake: FakeDriver) -> str:
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    return driver._load((9, 0))[1]


def test_a_fresh_file_is_loaded_without_the_compiler(written, monkeypatch):
    _, cubin = written
    monkeypatch.setattr(nvrtc, "compiler", None)  # not to be called
    fake = FakeDriver()
    assert loads(monkeypatch, fake) == "prebuilt"
    assert fake.loaded == [cubin]
    assert prebuild.image((9, 1)) is None  # a device's own only


def stale_source(path, monkeypatch):
    texts = nvrtc._texts()
    monkeypatch.setattr(nvrtc, "_texts", lambda: [texts[0] + b"\n", *texts[1:]])


def stale_options(path, monkeypatch):
    monkeypatch.setattr(nvrtc, "OPTIONS", ("--std=c++20",))


def other_key(path, monkeypatch):
    data = path.read_bytes()
    path.write_bytes(data.replace(nvrtc.digest("sm_90").encode(), b"0" * 64))


def missing(path, monkeypatch):
    path.unlink()


def empty(path, monkeypatch):
    path.write_bytes(b"")


def cut(path, monkeypatch):
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path, monkeypatch):
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(bytes(data))


def too_large(path, monkeypatch):
    head = path.read_bytes().partition(b"\n")[0]
    path.write_bytes(head + b"\n" + lzma.compress(bytes(5 << 20)))


@pytest.mark.parametrize(
    "harm",
    [
        *(stale_source, stale_options, other_key, missing),
        *(empty, cut, flipped, too_large),
    ],
    ids=lambda harm: harm.__name__,
)
def test_what_is_not_fresh_and_whole_is_compiled_instead(written, monkeypatch, harm):
    path, _ = written
    harm(path, monkeypatch)
    monkeypatch.setattr(nvrtc, "compiler", lambda: FakeCompiler(b"compiled now"))
    fake = FakeDriver()
    assert loads(monkeypatch, fake) == "compiled"
    assert fake.loaded == [b"compiled now"]


def test_what_the_driver_refuses_is_compiled_instead(written, monkeypatch):
    monkeypatch.setattr(nvrtc, "compiler", lambda: FakeCompiler(b"compiled now"))
    fake = FakeDriver(only=b"compiled now")
    assert loads(monkeypatch, fake) == "compiled"
    assert fake.loaded == [written[1], b"compiled now"]
