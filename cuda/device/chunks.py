# SPDX-License-Identifier: Apache-2.0
"""The chunks of a batch on a device: launches, and what is left when all is coded.

Chunks.code      a pass over all chunks, one launch
Chunks.collect   finished chunks and their bytes, one copy   ->  frames
check_end        errors that a decoder's chunks have recorded
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.cuda.device import layouts
from polycodec.cuda.framing import Frame
from polycodec.cuda.lanes import Lanes
from polycodec.errors import InputError

if TYPE_CHECKING:
    from polycodec.cuda.device.driver import Device


class Chunks:
    """The chunks of a batch on a device, and the launches that move them."""

    def __init__(
        self,
        device: Device,
        chunks: np.ndarray,
        states: np.ndarray,
        words: Any,
        side: Any,
    ) -> None:
        self.device, self.count = device, chunks.size
        warps = layouts.warps_of(chunks)
        self.warp_count = warps.size
        self.warps, self.chunks = upload(device, warps), upload(device, chunks)
        self.states, self.words, self.side = device.upload(states), words, side

    def code(
        self,
        kernel: str,
        struct: Any,
        shared: int,
        indexes: Any,
        symbols: Any,
        parts: layouts.PriorParts | None = None,
    ) -> None:
        """Launch one pass over all chunks; ``parts`` belong to a prior's kernel."""
        device, pointer = self.device, self.device.pointer
        # Few warps: one to a block, so that they spread over the processors.
        together = -(-self.warp_count // device.processors)
        together = min(max(together, 1), device.threads // 32)
        buffers = (self.warps, self.chunks, self.states, self.words, self.side)
        args = layouts.Pass(
            *map(pointer, (*buffers, indexes, symbols)),
            struct,
            symbols.shape[1],
            self.warp_count,
            together,
        )
        job = layouts.PriorPass(args, parts) if parts else args
        grid = (-(-self.warp_count // together), 1)
        device.launch(kernel, job, grid, device.threads, shared)

    def collect(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the chunks (C,) and all their bytes, as uint16."""
        device = self.device
        offsets = device.empty(self.count + 1, np.int64)
        buffers = (self.chunks, self.states, self.words, self.side, offsets)
        args = layouts.Collect(*map(device.pointer, buffers), None, self.count)
        device.launch("measure", args, (1, 1), device.threads, 8 * device.threads)
        chunks = device.download(self.chunks, layouts.CHUNK)
        out = device.empty(int(_sizes(chunks).sum()), np.uint16)
        args.out = device.pointer(out)
        device.launch("compact", args, (self.count, 1), device.threads, 0)
        return chunks, device.download(out, np.uint16)


def upload(device: Device, records: np.ndarray) -> Any:
    """Copy records, of any dtype, to the device as bytes."""
    return device.upload(records.view(np.uint8))


def check_end(chunks: np.ndarray, states: np.ndarray) -> None:
    """Raise the error that a stream's chunks have recorded; check how they ended."""
    begin, lanes = int(chunks["state"][0]), int(chunks["lanes"][0])
    own = states[begin : begin + chunks.size * lanes].reshape(-1, lanes)
    empty = np.empty(0, np.uint16)
    state = Lanes(
        own,
        *(empty, chunks["word"], chunks["word_end"]),
        *(empty.view(np.int16), chunks["side"], chunks["side_end"]),
        bool(chunks["mini"][0]),
    )
    for chunk in np.flatnonzero(chunks["status"]).tolist():
        status = int(chunks["status"][chunk])
        if status & layouts.NO_SUCH_TABLE:
            raise InputError(f"chunk {chunk}: an index has no table in its set")
        if status & layouts.NO_DISTRIBUTION:
            raise InputError(
                f"chunk {chunk}: a mixture is no distribution; expected indexes of its "
                "scales, means within ±2^21 and weights of 0 or more with the sum 256"
            )
        if status & layouts.OUT_OF_WORDS:
            raise state.words_ran_out(chunk)
        raise state.side_ran_out(chunk)
    state.check_end()


def frames(chunks: np.ndarray, octets: np.ndarray, crc: str) -> list[Frame]:
    """Cut the finished bytes (uint16) into the streams' frames."""
    assert not chunks["status"].any(), "the encoder's own buffers do not fit"
    ends = np.cumsum(_sizes(chunks)).tolist()
    states, words, side, frames = [], [], [], []
    for chunk, end, size in zip(chunks, ends, _sizes(chunks).tolist(), strict=True):
        two, count = 2 * int(chunk["lanes"]), int(chunk["word_end"] - chunk["word"])
        body = octets[end - size : end]
        states.append(body[:two].copy().view(np.uint32))
        words.append(body[two : two + count])
        side.append(body[two + count :].view(np.int16))
        if chunk["number"] == chunk["chunks"] - 1:
            mini = bool(chunk["mini"])
            frames.append(Frame(np.stack(states), words, side, mini, crc))
            states, words, side = [], [], []
    return frames


def _sizes(chunks: np.ndarray) -> np.ndarray:
    """Return the finished size of each chunk in 16-bit words, (C,) int64."""
    words = chunks["word_end"] - chunks["word"]
    return 2 * chunks["lanes"] + words + chunks["side_end"] - chunks["side"]
