# SPDX-License-Identifier: Apache-2.0
"""``.plc`` files as a data set of torch, decoded where they are asked for.

    PlcDataset(folder)                          pixels, or samples
    PlcDataset(folder, region=random_crop)      only the tiles that a region needs
    PlcDataset(folder, read="codes")            what was coded: nothing is synthesised

Workers of a DataLoader get names of files, which may lie far away (`places`), and load
the codec that the files name, unless one was given. What goes wrong is told with the
file's name.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from polycodec import places
from polycodec.codecs.base import Codec
from polycodec.codecs.files import folders
from polycodec.codecs.files.container.file import Reader, Stored
from polycodec.codecs.files.container.members import Index
from polycodec.codecs.files.ends import codec_of
from polycodec.codecs.files.image.decode import Opened, region_of
from polycodec.codecs.files.kinds import stored_kind, words_of
from polycodec.codecs.files.loader import SHARED
from polycodec.codecs.files.options import ReadOptions
from polycodec.codecs.files.sources import opened
from polycodec.codecs.files.speech import decode as speech
from polycodec.codecs.strings import handed_out
from polycodec.errors import CodecError, UsageError

READ = ("signal", "codes", "latents")
_SETS = 16  # that a thread keeps open
Region = tuple[int, int, int, int]
Seconds = tuple[float, float | None]


class PlcDataset(Dataset[Any]):
    """Images and speech of ``.plc`` files, an item each; of a set, of each member.

    ``files``: a folder, whose tree is taken in order of names; one file; or a sequence
    of files. Far files that are listed, or lie in folders, are not looked into: a far
    set is named alone. ``read``: what an item is,

        "signal"    image (C, H, W) uint8, above 8 bits int32; speech (channels, T)
                    float32 in [-1, 1], at the rate of its file
        "codes"     (C, h, w) or (channels, C, n), as `Codec.latents` has them; -1 for
                    levels that a chunk of speech has not
        "latents"   ẑ (D, h, w) or (channels, D, n) float32, in equal units at any rate

    ``region``: (x, y, width, height) in pixels, or a function that makes one of (width,
    height), for random crops; of codes those of all positions that it touches.
    ``seconds``: the same of speech, (from, to), of its duration. ``transform``: is
    given each item. ``codec``: for files of its digest; others are loaded by name.
    Transparency is left out.

    An item raises the errors of `polycodec.errors`; UsageError for a video.
    """

    def __init__(
        self,
        files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        read: str = "signal",
        region: Region | Callable[[int, int], Region] | None = None,
        seconds: Seconds | Callable[[float], Seconds] | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        codec: Codec | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> None:
        if read not in READ:
            raise UsageError(f"read is '{read}'; expected one of {', '.join(READ)}")
        self.read, self.region, self.seconds = read, region, seconds
        self.transform, self.codec = transform, codec
        path = None if checkpoint is None else Path(checkpoint)
        self.options = ReadOptions(device=device, checkpoint=path)
        self.items = list(_items(files))
        self._sets = _Sets()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> Any:
        path, member = self.items[k]
        try:
            with self._stored(path, member) as stored:
                item = self._item(stored)
        except CodecError as error:
            place = path if member is None else f"{path}, member '{member}'"
            raise type(error)(f"{place}: {error}") from error
        return item if self.transform is None else self.transform(item)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes, which open files themselves."""
        return {k: v for k, v in vars(self).items() if k != "_sets"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._sets = _Sets()

    @contextlib.contextmanager
    def _stored(self, path: str, member: str | None) -> Iterator[Stored]:
        if member is not None:
            yield self._sets.index(path).open(member)
            return
        with opened(path) as file:
            yield Reader(file)

    @torch.no_grad()
    def _item(self, stored: Stored) -> Tensor:
        kind = stored.header.kind
        if kind not in _ITEMS:
            raise UsageError(
                f"it holds {words_of(kind)}; expected images or speech; of features "
                "see polycodec.classify, of others polycodec.decode"
            )
        own: Callable[..., Tensor] = _ITEMS[kind]
        mine = self.codec is not None and self.codec.digest == stored.header.digest
        given = self.codec if mine else SHARED
        codec = codec_of(stored.header, self.options, given)
        return own(self, stored, codec)

    def _image(self, stored: Stored, codec: Codec) -> Tensor:
        image = Opened(stored, codec)
        geometry, region = image.geometry, self.region
        if callable(region):
            region = region(geometry.width, geometry.height)
        span = region_of(region, geometry)
        if self.read == "signal":
            pixels = image.decoder.render(span, *image.samples)
            pixels = pixels.astype(np.int32) if pixels.dtype != np.uint8 else pixels
            return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        codes = image.decoder.codes_in(span, *image.samples)
        level = codec.level_of(stored.header.quality)
        return handed_out(codec, codes, level, self.read == "latents")[0]

    def _speech(self, stored: Reader, codec: Codec) -> Tensor:
        geometry, seconds = speech.geometry_of(stored), self.seconds
        if callable(seconds):
            seconds = seconds(geometry.samples / geometry.rate)
        first, last = speech.range_of(seconds, geometry)
        decoder = speech.chunk_decoder(codec, stored)
        if self.read == "signal":
            condition = stored.header.record("condition")
            blocks = list(speech.decoded(decoder, geometry, condition, first, last))
            return torch.from_numpy(np.concatenate(blocks)).T.contiguous()
        scale = decoder.signal.rate / geometry.rate / decoder.hop
        start, stop = int(first * scale), min(math.ceil(last * scale), decoder.frames)
        span, parts = decoder.span, []
        for k in range(start // span, (stop - 1) // span + 1):
            codes, level = decoder.codes(k)
            part = handed_out(codec, codes, level, self.read == "latents")
            parts.append(part[..., max(0, start - k * span) : stop - k * span])
        most = max(part.shape[1] for part in parts)
        padded = [F.pad(p, (0, 0, 0, most - p.shape[1]), value=-1) for p in parts]
        return torch.cat(padded, dim=2)


_ITEMS: dict[str, Any] = {"image": PlcDataset._image, "speech": PlcDataset._speech}


class _Sets(threading.local):
    """Sets that a thread reads from: files have one place that is read next."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], Index] = {}
        self._open: dict[tuple[int, str], contextlib.ExitStack] = {}

    def index(self, path: str) -> Index:
        """The set of a path; a forked process has no file in common with its parent."""
        place = os.getpid(), path
        if place not in self._known:
            if len(self._known) == _SETS:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._open.pop(oldest).close()
            with contextlib.ExitStack() as stack:
                self._known[place] = Index(Reader(stack.enter_context(opened(path))))
                self._open[place] = stack.pop_all()
        return self._known[place]


def _items(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> Iterator[tuple[str, str | None]]:
    """The files, and of sets their members."""
    if alone := isinstance(files, (str, os.PathLike)):
        found = [os.fspath(files)]
        if places.is_folder(found[0]):
            found, alone = folders.expand(found, _refusal)[0], False
    else:
        found = [os.fspath(one) for one in files]
    for path in found:
        if not alone and (places.is_far(path) or stored_kind(path) != "set"):
            yield path, None
            continue
        with opened(path) as file:
            reader = Reader(file)
            if reader.header.kind == "set":
                yield from ((path, name) for name in Index(reader).names)
            else:
                yield path, None


def _refusal(path: str) -> str | None:
    return None if path.endswith(".plc") else "no .plc file"
