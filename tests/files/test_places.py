# SPDX-License-Identifier: Apache-2.0
"""Files in distant places: read by parts, written whole, refused by name."""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import sys
import threading

import pytest

import polycodec
from polycodec import places
from polycodec.atomic import atomic_write
from polycodec.codecs.files.ends import target_of
from polycodec.codecs.files.video.write import numbered_frames
from polycodec.errors import InputError, UsageError

fsspec = pytest.importorskip("fsspec")
memories = pytest.importorskip("fsspec.implementations.memory")
MemoryFile, MemoryFileSystem = memories.MemoryFile, memories.MemoryFileSystem


@pytest.fixture
def memory():
    """An empty file system in memory, the store of its files by their paths."""
    store = fsspec.filesystem("memory").store
    store.clear()
    yield store
    store.clear()


def test_names_of_places():
    far = ("s3://b/a.png", "gs://b/a", "https://x.org/a.png", "simplecache::s3://b/a")
    near = ("a.png", "/a/b.png", "C://a.png", "a:b", "", b"s3://x", pathlib.Path("a"))
    assert all(map(places.is_far, far)) and not any(map(places.is_far, near))


def test_a_file_is_written_whole_or_not_at_all(memory):
    with atomic_write("memory://b/a.bin") as file:
        file.write(b"one")
        assert not memory
    assert memory["/b/a.bin"].getvalue() == b"one"
    with (
        pytest.raises(InputError, match=r"b/a\.bin exists.*--force"),
        atomic_write("memory://b/a.bin"),
    ):
        pass
    with (
        pytest.raises(KeyboardInterrupt),
        atomic_write("memory://b/a.bin", force=True) as file,
    ):
        file.write(b"half")
        raise KeyboardInterrupt
    assert memory["/b/a.bin"].getvalue() == b"one" and len(memory) == 1
    with (
        pytest.raises(InputError, match="meanwhile"),
        atomic_write("memory://b/new") as file,
    ):
        memory["/b/new"] = memory["/b/a.bin"]


def test_where_files_do_not_appear_whole_they_are_moved(tmp_path, monkeypatch):
    local = fsspec.filesystem("file")
    target = (tmp_path / "new" / "a.bin").as_uri()
    with atomic_write(target) as file:
        file.write(b"one")
    assert [p.name for p in tmp_path.rglob("*")] == ["new", "a.bin"]
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"one"

    def cut(made, path, **_):
        pathlib.Path(path).write_bytes(b"o")
        raise ConnectionError("the line is cut")

    monkeypatch.setattr(local, "put_file", cut)
    with (
        pytest.raises(InputError, match=r"cannot write file:.*the line is cut"),
        atomic_write(target, force=True) as file,
    ):
        file.write(b"two")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"one"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.bin"]


class Listed(MemoryFileSystem):
    """A place that remembers its listings, as those of object storage do."""

    protocol = "listed"

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("listed://")

    def invalidate_cache(self, path=None):
        self.dircache.clear()

    def ls(self, path, detail=True, **_):
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        rows = self.dircache[path]
        return rows if detail else [row["name"] for row in rows]

    def exists(self, path, **_):
        return path in self.ls(path.rsplit("/", 1)[0], detail=False)


def test_what_others_wrote_meanwhile_is_there(memory):
    fsspec.register_implementation("listed", Listed, clobber=True)
    for name in ("a", "b", "c"):
        memory[f"/d/{name}"] = MemoryFile(data=b"x")
        assert places.exists(f"listed:///d/{name}")
        assert places.there([f"listed:///d/{name}", "listed:///d/no"]) == {
            f"listed:///d/{name}"
        }


def test_two_readers_of_one_file_do_not_meet(memory):
    memory["/a"] = MemoryFile(data=bytes(range(256)))
    with places.opened("memory://a") as one, places.opened("memory://a") as two:
        one.seek(100)
        assert (two.read(3), one.read(2)) == (b"\0\1\2", b"de")
        assert (one.seek(-1, 2), one.read()) == (255, b"\xff")


def test_what_cannot_be_is_said_by_name(memory, monkeypatch):
    with (
        pytest.raises(InputError, match="no such file: memory://no"),
        places.opened("memory://no"),
    ):
        pass
    with pytest.raises(UsageError, match=r"nosuch://a.*expected a path, or a place"):
        polycodec.info("nosuch://a")
    with pytest.raises(UsageError, match="https can only be read; name another output"):
        polycodec.encode(b"P5 1 1 255 0", "https://example.org/a.plc")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match="not installed; run pip install fsspec"):
        polycodec.info("memory://a.plc")


def test_a_folder_there_and_back(cli, memory, photo, tiny_checkpoint, monkeypatch):
    weights = "--checkpoint", tiny_checkpoint
    data = photo.read_bytes()
    for name in ("a.png", "deep/b.png", ".hidden/c.png", "notes.txt"):
        memory[f"/in/{name}"] = MemoryFile(data=data)
    code, out, err = cli("encode", "memory://in", "-o", "memory://out", *weights)
    assert code == 0 and out.count("\n") == 2, err
    assert "left out memory://in/.hidden/c.png: hidden" in err
    assert "left out memory://in/notes.txt: no image" in err
    made = {name for name in memory if name.startswith("/out")}
    assert made == {"/out/a.plc", "/out/deep/b.plc"}
    assert cli("encode", photo, "-o", "near.plc", *weights)[0] == 0
    assert memory["/out/a.plc"].getvalue() == pathlib.Path("near.plc").read_bytes()
    again = "encode", "memory://in", "-o", "memory://out", *weights
    assert cli(*again)[0] == 3
    code, out, err = cli(*again, "--skip-existing")
    assert code == 0 and out == "" and err.count("exists already") == 2
    _, out, _ = cli("info", "memory://out", "--json")
    names = [json.loads(line)["input"] for line in out.splitlines()]
    assert names == ["memory://out/a.plc", "memory://out/deep/b.plc"]
    assert cli("verify", "memory://out/a.plc")[0] == 0
    code, _, err = cli("decode", "memory://out", "-o", "back", *weights)
    assert code == 0, err
    assert pathlib.Path("back/deep/b.png").is_file()
    code, _, err = cli("decode", "memory://out/a.plc", "-o", "memory://x.png", *weights)
    assert code == 0, err
    assert memory["/x.png"].getvalue() == pathlib.Path("back/a.png").read_bytes()


def test_sets_and_frames_stay_on_this_machine(cli, memory, photo, tiny_checkpoint):
    weights = "--checkpoint", tiny_checkpoint
    for name in ("a.png", "deep/b.png"):
        file = MemoryFile(data=photo.read_bytes())
        memory[f"/in/{name}"] = file
    code, _, err = cli("pack", "memory://in/", "-o", "memory://in.plc", *weights)
    assert code == 0, err
    listed = polycodec.info("memory://in.plc")["members"]
    assert [member["name"] for member in listed] == ["a.png", "deep/b.png"]
    assert cli("unpack", "memory://in.plc", "-o", "near", *weights)[0] == 0
    assert pathlib.Path("near/deep/b.png").is_file()
    code, _, err = cli("unpack", "memory://in.plc", "-o", "memory://far", *weights)
    assert code == 2 and "cannot unpack into memory://far" in err
    with (
        pytest.raises(UsageError, match="cannot write frames to memory://f/%05d"),
        numbered_frames("memory://f/%05d.png", None, 0, force=False),
    ):
        pass
    assert not pathlib.Path("memory:").exists()


def test_a_folder_with_its_slash_has_a_name_beside_it(tmp_path):
    assert target_of(f"{tmp_path}/frames/", None, ".plc", False) == str(
        tmp_path / "frames.plc"
    )


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server that gives the bytes asked for, or, as /whole/, no part of a file."""

    def do_GET(self):
        path = pathlib.Path(self.directory, self.path.rsplit("/", 1)[1])
        wanted = self.headers.get("Range")
        if not path.is_file():
            self.send_error(404)
            return
        data, whole = path.read_bytes(), not wanted or "whole" in self.path
        first, last = 0, len(data) - 1
        if not whole:
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self.send_response(200 if whole else 206)
        if not whole:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp")
    handler = functools.partial(Ranges, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("folder", ["parts", "whole"])
def test_files_of_the_web_are_read(cli, web, photo, tiny_checkpoint, folder):
    weights = "--checkpoint", tiny_checkpoint
    source = f"{web}/{folder}/photo.png"
    code, _, err = cli("encode", source, "-o", "far.plc", *weights)
    assert code == 0, err
    assert cli("encode", photo, "-o", "near.plc", *weights)[0] == 0
    assert pathlib.Path("far.plc").read_bytes() == pathlib.Path("near.plc").read_bytes()
    code, out, _ = cli("info", f"{web}/{folder}/near.plc")
    assert code == 0 and "80x72" in out
    code, _, err = cli("encode", source, *weights)
    assert code == 2 and "http can only be read" in err
    code, _, err = cli("encode", f"{web}/{folder}/no.png", "-o", "no.plc", *weights)
    assert code == 3 and "no such file: http" in err
