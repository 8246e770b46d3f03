# SPDX-License-Identifier: Apache-2.0
"""What several test files share: tiny codecs, a photograph, the command line.

A tiny codec is small enough to train inside a test; untrained, its files are real
and its images are not good.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

# Before NumPy and torch: idle threads of theirs otherwise spin and take the cores from
# tests that ask for more threads than there are.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _tiny_codec(transform: str = "residual", entropy: str = "context") -> dict:
    from tiny_parts import section

    return {
        "name": "latent",
        "channels": 12,
        "knots": 3,
        "transform": section("transform", transform),
        "entropy": section("entropy", entropy),
    }


@pytest.fixture
def homeless(monkeypatch) -> None:
    """A user without a home: no HOME, and none in the system's list."""
    for name in (
        "POLYCODEC_CACHE",
        *(f"XDG_{k}_HOME" for k in ("CACHE", "CONFIG", "DATA")),
    ):
        monkeypatch.delenv(name, raising=False)
    nowhere = pathlib.Path("~nobody~")
    monkeypatch.setattr(pathlib.Path, "home", nowhere.expanduser)


@pytest.fixture(scope="session")
def tiny_codec():
    """A function: names of a transform and an entropy model -> a codec section."""
    return _tiny_codec


@pytest.fixture(scope="session")
def training_images(tmp_path_factory) -> pathlib.Path:
    """Six smooth PNGs of about 150 x 130."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(6):
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        small.resize((150 + i, 130), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def run_config(tmp_path, training_images, tiny_codec) -> dict:
    """A training config of four steps, as a plain dictionary."""
    return {
        "codec": tiny_codec(),
        "data": {
            "train": str(training_images),
            "cache": str(training_images.parent / "cache"),
            "crop": 64,
            "batch": 2,
            "holdout": 3,
        },
        "optim": {"lr": 1e-3, "warmup": 2},
        "run": {
            "out": str(tmp_path / "run"),
            "steps": 4,
            "accelerator": "cpu",
            "save_every": 2,
            "log_every": 2,
        },
        "eval": {"every": 4, "images": 2, "size": 64, "qualities": [0, 50, 100]},
    }


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> pathlib.Path:
    """Path of a weights file as an export writes it, untrained."""
    import torch

    from polycodec.registry import build

    torch.manual_seed(1)
    config = _tiny_codec()
    options = {k: v for k, v in config.items() if k != "name"}
    codec = build(f"codec/{config['name']}", **options)
    codec.freeze(lambda c: c(torch.rand(2, 3, 64, 64), torch.rand(2)))
    path = tmp_path_factory.mktemp("run") / "codec.safetensors"
    codec.save(path, config)
    return path


@pytest.fixture
def photo(tmp_path) -> pathlib.Path:
    """Path of a PNG of 80 x 72 pixels, smooth with some grain."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    large = np.asarray(small.resize((80, 72), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 3, large.shape)
    path = tmp_path / "photo.png"
    Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def process(tmp_path):
    """Run `polycodec ARGS` in a process of its own, in the test's folder."""

    def run(*args: object, stdin: bytes = b"", python: tuple[str, ...] = ()):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, *(python or ("-m", "polycodec"))]
        return subprocess.run(
            [*command, *map(str, args)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def loaded_by(process):
    """Run `polycodec ARGS` in a process of its own: names of the modules it loads."""
    script = (
        "import sys\n"
        "from polycodec.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code, ended.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )

    def run(*args: object) -> set[str]:
        done = process(*args, python=("-c", script))
        assert done.returncode == 0, (args, done.stderr.decode())
        return set(done.stderr.decode().split())

    return run


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    """Run `polycodec ARGS` in this process: (exit code, stdout, stderr)."""
    from polycodec.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def coder_settings():
    """No settings of the coder from outside; what a test sets is put back.

    Tests set them as they go, because hypothesis forbids monkeypatch.
    """
    names = ("POLYCODEC_SIMD", "POLYCODEC_THREADS", "POLYCODEC_CODER")
    before = {name: os.environ.pop(name, None) for name in names}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def sound_codec():
    """A tiny codec for speech, ready to code; see `tiny_speech.py`."""
    from tiny_speech import tiny_speech_codec

    return tiny_speech_codec()


@pytest.fixture
def sound_weights(monkeypatch, sound_codec):
    """`zoo.load` gives the tiny codec for speech/default."""
    from polycodec.codecs import zoo
    from polycodec.errors import UnknownNameError

    def load(name, device="cpu", *, checkpoint=None, digest=None):
        if not name.startswith("speech/"):
            raise UnknownNameError.of("model", name, ["speech/default"])
        return sound_codec

    monkeypatch.setattr(zoo, "load", load)
    return sound_codec
