# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels' source as NVRTC compiles it: registers, no spills, the cache.

No GPU and no driver are needed. POLYCODEC_CUDA_TARGETS=all compiles for every target
(some seconds each) instead of one.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import types

import pytest

from polycodec.cuda.device import nvrtc
from polycodec.errors import UsageError

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
ALL = os.environ.get("POLYCODEC_CUDA_TARGETS") == "all"
# On a multiprocessor of 65536 registers 64 leave room for 32 warps, 80 for 24.
MOST_REGISTERS = {
    "encode": 80,
    "decode": 64,
    "survey": 64,
    "measure": 64,
    "compact": 64,
    "checksum": 64,
}


@functools.cache
def no_nvrtc() -> str:
    try:
        nvrtc.compiler()
    except UsageError as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(no_nvrtc()), reason=no_nvrtc())


@needs_nvrtc
@pytest.mark.parametrize("target", TARGETS if ALL else ("sm_90",))
def test_kernels_compile_without_spills(target):
    if int(target[3:]) not in nvrtc.compiler().capabilities():
        pytest.skip(f"NVRTC {nvrtc.compiler().version} does not know {target}")
    options = (*nvrtc.OPTIONS, "--ptxas-options=-v")  # registers and spills, in the log
    image, log = nvrtc.compiler().compile(target, options)
    assert image[:4] == b"\x7fELF" and len(image) < 1 << 20
    assert "warning" not in log
    entries = re.findall(r"Compiling entry function '(\w+)'", log)
    source = (pathlib.Path(nvrtc.__file__).parent / nvrtc.SOURCE).read_text()
    assert sorted(entries) == sorted(re.findall(r"KERNEL (\w+)\(", source))
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log)
    assert spills == [("0", "0")] * len(entries)
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", log)]
    for name, used in zip(entries, registers, strict=True):
        assert used <= MOST_REGISTERS[name.split("_")[0]], name


def test_targets_for_devices():
    known = [75, 80, 86, 90, 100, 120]
    for capability, target in [
        ((7, 5), "sm_75"),
        ((8, 9), "sm_86"),  # machine code serves later devices of its family
        ((9, 0), "sm_90"),
        ((10, 3), "sm_100"),
        ((13, 0), "compute_120"),  # and the driver compiles PTX for the others
    ]:
        assert nvrtc.target_for(capability, known) == target
    with pytest.raises(UsageError, match=r"7\.5"):
        nvrtc.target_for((7, 0), known)


class FakeCompiler:
    version, made = (13, 0), 0

    def capabilities(self):
        return [75, 90]

    def compile(self, target):
        self.made += 1
        return target.encode(), ""


def test_cache_is_keyed_by_source_target_and_version(monkeypatch, tmp_path):
    fake = FakeCompiler()
    monkeypatch.setattr(nvrtc, "compiler", lambda: fake)
    monkeypatch.setenv("POLYCODEC_CACHE", str(tmp_path / "deep" / "cache"))
    assert nvrtc.kernels((9, 0)) == nvrtc.kernels((9, 0)) == b"sm_90"
    assert fake.made == 1
    assert nvrtc.kernels((7, 5)) == b"sm_75"
    fake.version = (13, 1)
    nvrtc.kernels((9, 0))
    monkeypatch.setattr(nvrtc, "OPTIONS", ("--std=c++20",))
    nvrtc.kernels((9, 0))
    texts = nvrtc._texts()
    monkeypatch.setattr(nvrtc, "_texts", lambda: [*texts[:-1], texts[-1] + b"\n"])
    nvrtc.kernels((9, 0))
    assert fake.made == 5
    assert len(list((tmp_path / "deep" / "cache").iterdir())) == 5  # nothing half done


def test_a_cache_that_cannot_be_used_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(nvrtc, "compiler", FakeCompiler)
    monkeypatch.setenv("POLYCODEC_CACHE", str(tmp_path / "file"))
    assert nvrtc.kernels((9, 0)) == b"sm_90"
    monkeypatch.setenv("POLYCODEC_CACHE", str(tmp_path / "cache"))
    nvrtc.kernels((9, 0))
    (kept,) = (tmp_path / "cache").iterdir()
    kept.unlink()
    kept.mkdir()  # as little to be read as another user's file
    assert nvrtc.kernels((9, 0)) == b"sm_90"


def test_the_cache_of_a_user_without_a_home_is_none(monkeypatch, homeless):
    monkeypatch.setattr(nvrtc, "compiler", FakeCompiler)
    assert nvrtc.kernels((9, 0)) == b"sm_90"


@pytest.mark.parametrize(
    "layout", ["cuda_nvrtc/lib/libnvrtc.so.12", "cu13/lib/libnvrtc.so.13"]
)
def test_both_layouts_of_the_nvidia_packages_are_found(monkeypatch, tmp_path, layout):
    (tmp_path / layout).parent.mkdir(parents=True)
    (tmp_path / layout).touch()
    (tmp_path / layout).with_name("libnvrtc-builtins.so.12.8").touch()
    (tmp_path / layout).with_name("libnvrtc.alt.so.12").touch()
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(nvrtc.importlib.util, "find_spec", lambda name: spec)
    assert nvrtc.find_library() == tmp_path / layout


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nvrtc, "find_library", lambda: None)
    with pytest.raises(UsageError, match="nvidia-cuda-nvrtc"):
        nvrtc.Compiler()
