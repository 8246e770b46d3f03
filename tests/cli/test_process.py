# SPDX-License-Identifier: Apache-2.0
"""The command in its surroundings: pipes, closed streams, signals, terminals, folders.

What needs no process of its own runs in this one, which has loaded torch.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

if not shutil.which("bash") or not hasattr(signal, "SIGHUP"):
    pytest.skip("these are tests of POSIX systems with bash", allow_module_level=True)

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "v1" / "files" / "image-gray.plc"


@pytest.fixture
def bash(tmp_path):
    """Run a script where `polycodec` is ours, beside a.plc of a picture."""
    shutil.copy(GOLDEN, tmp_path / "a.plc")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "polycodec"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m polycodec "$@"\n')
    command.chmod(0o755)

    def run(script: str) -> subprocess.CompletedProcess[bytes]:
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": path,
                "PYTHONPATH": python.rstrip(os.pathsep),
            },
            timeout=120,
            check=False,
        )

    return run


def default_signals() -> None:
    """Let a child react to signals that nohup or a background job ignores."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def piped(data: bytes) -> int:
    """The reading end of a pipe that holds ``data``, less than a pipe's room."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def test_pipes_that_have_names_are_streams(cli, photo, tiny_checkpoint, tmp_path):
    weights = ("--checkpoint", tiny_checkpoint)
    assert cli("encode", photo, *weights)[0] == 0
    data = (tmp_path / "photo.plc").read_bytes()
    reading, writing = os.pipe()
    name = f"/dev/fd/{writing}"
    code, out, err = cli("encode", photo, "-o", name, *weights)
    os.close(writing)
    assert (code, err) == (0, "") and f"-> {name}" in out
    assert os.read(reading, 1 << 20) == data
    source = f"/dev/fd/{piped(photo.read_bytes())}"
    assert cli("encode", source, "-o", "again.plc", *weights)[0] == 0
    assert (tmp_path / "again.plc").read_bytes() == data
    for command, word in (("info", "80x72"), ("verify", "whole")):
        code, out, err = cli(command, f"/dev/fd/{piped(data)}")
        assert code == 0 and word in out, err
    reading, writing = os.pipe()
    args = ("-o", f"/dev/fd/{writing}", "--format", "webp", *weights)
    assert cli("decode", f"/dev/fd/{piped(data)}", *args)[0] == 0
    assert os.read(reading, 12)[8:] == b"WEBP"


def test_a_pipe_among_many_inputs_is_read_once(cli, photo, tiny_checkpoint, tmp_path):
    weights = ("--checkpoint", tiny_checkpoint)
    assert cli("encode", photo, "-o", "a.plc", *weights)[0] == 0
    os.mkfifo(tmp_path / "f.plc")
    data = (tmp_path / "a.plc").read_bytes()
    writer = threading.Thread(target=(tmp_path / "f.plc").write_bytes, args=[data])
    writer.start()
    (tmp_path / "out").mkdir()
    code, _, err = cli("decode", "a.plc", "f.plc", "-o", "out", *weights)
    writer.join()
    assert code == 0, err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "f.png"}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("polycodec info a.plc >&-", 0),
        ("polycodec verify a.plc 2>&-", 0),
        ("polycodec verify a.plc >&- 2>&- <&-", 0),
        ("polycodec encode - -o b.plc <&-", 3),
        ("polycodec decode a.plc -o - >&-", 3),
        ("polycodec info none.plc 2</dev/null", 3),
    ],
)
def test_closed_standard_streams(bash, tmp_path, script, code):
    whole = (tmp_path / "a.plc").read_bytes()
    done = bash(script)
    assert done.returncode == code and b"bug" not in done.stderr, done.stderr
    assert (tmp_path / "a.plc").read_bytes() == whole
    assert not (tmp_path / "b.plc").exists()


def test_terminals_that_know_no_unicode_show_names_escaped(bash):
    done = bash(
        "cp a.plc 日.plc; PYTHONIOENCODING=ascii LC_ALL=C polycodec info 日.plc"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(rb"\u65e5.plc: ")


def test_a_folder_that_is_gone_is_named(bash):
    done = bash("mkdir gone; cd gone; rmdir ../gone; polycodec info a.plc")
    assert done.returncode == 3
    assert done.stderr.endswith(
        b"polycodec: error: the current folder is gone; change to one that exists\n"
    )


def test_little_memory_is_named(bash):
    done = bash("ulimit -v 1500000; polycodec decode a.plc -o b.png")
    assert b"bug" not in done.stderr and b"Traceback" not in done.stderr
    if done.returncode == 3:  # a smaller build of torch may fit
        assert b"out of memory" in done.stderr, done.stderr


WRITES = """
import os, signal, sys, time
from polycodec.cli import process
process.end_orderly()
from polycodec.atomic import atomic_write
from polycodec.cli import main

def info(files, as_json=False):
    with atomic_write("whole.plc") as file:
        file.write(b"half")
        print(len(os.listdir(".")), flush=True)
        time.sleep(60)

command = [c for c in main.app.registered_commands if c.callback is main.info][0]
command.callback.__code__ = info.__code__
command.callback.__globals__.update(globals())
main.main(["info", "x"])
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_leave_nothing_behind(tmp_path, name):
    number = getattr(signal, name)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-c", WRITES],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=default_signals,
    )
    assert run.stdout and run.stdout.readline() == b"1\n"
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number
    assert b"polycodec: interrupted; nothing half-written is left\n" in err
    assert b"Traceback" not in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("after", [0.05, 0.15, 0.3])
def test_an_early_interrupt_shows_no_trace(tmp_path, after):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = "import polycodec.__main__ as m, sys; print(flush=True); m.main()"
    run = subprocess.Popen(
        [sys.executable, "-c", script, "models"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=default_signals,
    )
    assert run.stdout and run.stdout.readline() == b"\n"
    time.sleep(after)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert b"Traceback" not in err, err.decode()
