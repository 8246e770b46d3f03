# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the C library, one wheel a platform, the packages.

    with a C++ compiler       polycodec-VERSION-py3-none-PLATFORM.whl, _rans.so inside
    without one               polycodec-VERSION-py3-none-any.whl, NumPy codes

The library is called through ctypes and knows nothing of Python: neither its name nor
the wheel's says which Python it was built with, and every one takes the same wheel.
"""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# Top-level folders that are sub-packages of polycodec; pyproject.toml maps them.
ROOMS = ("codecs", "configs", "cuda", "entropy_models", "eval", "train")
SUFFIX = EXTENSION_SUFFIXES[-1]  # .so or .pyd: the one that names no Python


class Library(build_ext):
    """Build a plain shared library instead of an extension module."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + SUFFIX

    def get_export_symbols(self, ext):
        return ext.export_symbols  # the sources say what they export

    def get_libraries(self, ext):
        return ext.libraries  # never Python's own

    def build_extension(self, ext):
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/O2", "/std:c++14", "/EHsc"]
            ext.extra_link_args = []
        super().build_extension(ext)


class OneWheel(bdist_wheel):
    """Name the wheel by its platform alone, or by none if nothing was compiled."""

    def get_tag(self):
        built = any(Path(self.bdist_dir).rglob(f"_rans{SUFFIX}"))
        platform = super().get_tag()[2]
        self.root_is_pure = not built
        return "py3", "none", platform if built else "any"


def packages():
    """Return every folder with an ``__init__.py``, by its name as a package."""
    rooms = [
        f"polycodec.{name}"
        for room in ROOMS
        for name in (room, *(f"{room}.{inner}" for inner in find_packages(room)))
    ]
    return [*find_packages(include=["polycodec", "polycodec.*"]), *rooms]


# -O3 and no -march: one build serves all processors, kernels are chosen at run time.
library = Extension(
    "polycodec.cuda.host._rans",
    sources=sorted(path.as_posix() for path in Path("cuda/host").glob("*.cpp")),
    depends=sorted(path.as_posix() for path in Path("cuda").rglob("*.h")),
    language="c++",
    extra_compile_args=["-O3", "-std=c++14", "-fvisibility=hidden", "-g0", "-pthread"],
    extra_link_args=["-pthread"],
    optional=True,
)

setup(
    packages=packages(),
    ext_modules=[library],
    cmdclass={"build_ext": Library, "bdist_wheel": OneWheel},
)
