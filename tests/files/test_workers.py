# SPDX-License-Identifier: Apache-2.0
"""Encoders and decoders that are sent to other processes, and the jobs they do."""

from __future__ import annotations

import concurrent.futures
import io
import multiprocessing
import pathlib
import pickle
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

import polycodec
from polycodec.codecs import zoo
from polycodec.codecs.files.loader import SHARED, Loader
from polycodec.codecs.files.options import FileOptions
from polycodec.errors import InputError, UnknownNameError, UsageError


@pytest.fixture
def encoder(tiny_checkpoint):
    return polycodec.Encoder(quality=60, checkpoint=str(tiny_checkpoint))


@pytest.fixture
def decoder(tiny_checkpoint):
    return polycodec.Decoder(checkpoint=str(tiny_checkpoint))


@pytest.fixture
def album(photo, tmp_path) -> pathlib.Path:
    """Two photographs, a file that is none and says it is, and a text."""
    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(photo, folder / "a.png")
    shutil.copy(photo, folder / "deep" / "b.png")
    (folder / "bad.png").write_bytes(photo.read_bytes()[:500])
    (folder / "notes.txt").write_text("no image")
    return folder


def test_the_bytes_are_those_of_the_command(cli, encoder, decoder, photo):
    weights = "--checkpoint", encoder.options["checkpoint"]
    assert cli("encode", photo, "-o", "a.plc", "-q", 60, *weights)[0] == 0
    assert cli("decode", "a.plc", "-o", "a.png", *weights)[0] == 0
    data = pathlib.Path("a.plc").read_bytes()
    assert encoder(photo) == encoder(photo.read_bytes()) == data
    with photo.open("rb") as file:
        assert encoder(file) == data
    back = pathlib.Path("a.png").read_bytes()
    assert decoder(data) == decoder("a.plc") == back
    assert np.array_equal(decoder.pixels(data), np.asarray(Image.open("a.png")))


def test_arrays_are_images_with_nothing_beside_them(encoder, decoder, photo):
    pixels = np.asarray(Image.open(photo))
    data = encoder(pixels)
    assert data == encoder(photo)  # the photograph has nothing beside it either
    part = polycodec.Decoder(region=(5, 6, 30, 20), **decoder.options)
    assert np.array_equal(part.pixels(data), decoder.pixels(data)[6:26, 5:35])
    alpha = np.dstack([pixels, pixels[..., :1]])
    with Image.open(io.BytesIO(decoder(encoder(alpha)))) as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[..., 3], pixels[..., 0])
    deep = (pixels[..., 0].astype(np.uint16) << 8) + 7
    assert decoder.pixels(encoder(deep)).shape == (72, 80, 1)
    assert decoder.pixels(encoder(deep)).dtype == np.uint16
    for wrong in (pixels.astype(np.float32), pixels[None], np.zeros((0, 3), np.uint8)):
        with pytest.raises(InputError, match="cannot take an array"):
            encoder(wrong)


def test_what_cannot_be_is_said_where_it_is_made():
    with pytest.raises(UsageError, match="no option is called 'qualty'; nearest: qual"):
        polycodec.Encoder(qualty=3)
    with pytest.raises(UsageError, match="quality is 101"):
        polycodec.Encoder(quality=101)
    with pytest.raises(UsageError, match=r"^as is 3;"):
        polycodec.Encoder(as_=3)
    with pytest.raises(UsageError, match="exclude each other"):
        polycodec.Encoder(quality=3, target_size=5000)
    with pytest.raises(UnknownNameError, match=r"'image/defualt'; nearest: image/def"):
        polycodec.Encoder("image/defualt")
    with pytest.raises(UsageError, match="seconds is"):
        polycodec.Decoder(seconds=3)


def test_jobs_are_done_once_and_failures_have_reasons(encoder, album, tmp_path):
    out = tmp_path / "new" / "out"
    out.parent.mkdir()
    jobs = encoder.jobs(album, out)
    names = [pathlib.Path(job["output"]).relative_to(out).as_posix() for job in jobs]
    assert names == ["a.plc", "bad.plc", "deep/b.plc"]
    columns = {key: [job[key] for job in jobs] for key in ("input", "output")}
    done = encoder.batch(columns)
    assert done["state"] == ["done", "failed", "done"] and not any(done["reason"][::2])
    assert "bad.png" in done["reason"][1] and "cut" in done["reason"][1]
    assert done["bytes"][1] == 0 and done["bytes"][0] == len(encoder(album / "a.png"))
    made = sorted(p.name for p in out.rglob("*.*"))
    assert made == ["a.plc", "b.plc"]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.plc")}
    [left] = encoder.jobs(album, out)
    assert left["input"] == str(album / "bad.png")
    assert encoder.batch(columns)["state"] == ["there", "failed", "there"]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.plc")} == before
    again = polycodec.Encoder(force=True, **encoder.options)
    assert len(again.jobs(album, out)) == 3 and again.do(jobs[0])["state"] == "done"


def test_who_is_slower_finds_it_there(encoder, album, tmp_path, monkeypatch):
    job = encoder.jobs(album / "a.png", tmp_path)[0]

    def overtaken(source, target):
        pathlib.Path(target).write_bytes(b"theirs")
        raise InputError(f"{target} appeared meanwhile")

    monkeypatch.setattr(encoder, "file", overtaken)
    row = encoder.do(job)
    assert (row["state"], row["reason"], row["bytes"]) == ("there", "", 6)


def test_decoding_a_folder_of_two_formats(encoder, album, tmp_path):
    encoder.batch(
        {
            k: [j[k] for j in encoder.jobs(album, tmp_path / "p")]
            for k in ("input", "output")
        }
    )
    decoder = polycodec.Decoder("webp", checkpoint=encoder.options["checkpoint"])
    rows = [decoder.do(job) for job in decoder.jobs([tmp_path / "p"], tmp_path / "b")]
    assert [row["state"] for row in rows] == ["done", "done"]
    assert Image.open(tmp_path / "b" / "deep" / "b.webp").format == "WEBP"


def loaded_here(work, photo) -> tuple[bytes, int]:
    """What a worker makes of a photograph, and how often its process has loaded."""
    data = [work(photo) for _ in range(2)]
    assert data[0] == data[1]
    return data[0], SHARED._loaded.cache_info().misses


def test_a_process_loads_once_whatever_it_is_sent(encoder, photo):
    expected = encoder(photo)
    assert len(pickle.dumps(encoder)) < 400
    assert repr(pickle.loads(pickle.dumps(encoder))) == repr(encoder)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        sent = [pool.submit(loaded_here, encoder, photo) for _ in range(2)]
        assert [one.result() for one in sent] == [(expected, 1)] * 2


def test_threads_that_begin_together_load_once(monkeypatch):
    loads, go = [], threading.Barrier(4)

    def load(name, device, *, checkpoint, digest):
        loads.append(name)
        return object()

    monkeypatch.setattr(zoo, "load", load)
    loader = Loader()

    def work(_):
        go.wait()
        return loader.load("image/x", FileOptions())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = set(map(id, pool.map(work, range(4))))
    assert len(found) == 1 and loads == ["image/x"]
