# SPDX-License-Identifier: Apache-2.0
"""The state of a stream that is being coded, the same for every back end.

A pass of n symbols is laid over C chunks of N lanes in steps:

    symbol i of a chunk:  step i // N, lane i % N
    chunk c of a pass:    symbols [c * s * N, (c + 1) * s * N)
                          with s = ceil(ceil(n / N) / C) steps per chunk

so only the last chunk that has symbols may be shorter, and only its last step may
leave lanes without a symbol. Each pass starts at lane 0 again; between passes
nothing is written, the states simply go on.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from polycodec.cuda.framing import LOWER, Frame
from polycodec.cuda.mini import START
from polycodec.errors import BitstreamError, TruncatedError


def split_pass(n: int, chunks: int, lanes: int) -> list[slice]:
    """Return the symbols of a pass of ``n`` that each chunk codes, if it codes any.

    Chunks behind the last of these are left out: a stream may have more than symbols.
    """
    steps = (n + lanes - 1) // lanes  # BITSTREAM
    share = (steps + chunks - 1) // chunks * lanes
    edges = [*range(0, n, max(share, 1)), n]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _edges(sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of neighbouring parts begins and ends, (C,) int64 each."""
    ends = list(itertools.accumulate(sizes))
    return np.array([0, *ends[:-1]], np.int64), np.array(ends, np.int64)


@dataclass
class Lanes:
    """Lane states, and where each chunk stands in its words and side list.

    states: (C, N) uint32. words: uint16, all chunks' words; chunk c owns a range
    of it. From word[c] to word_end[c] decoding goes up, and encoding down. side: int16,
    likewise, used only in decoding.
    """

    states: np.ndarray
    words: np.ndarray
    word: np.ndarray  # (C,) int64
    word_end: np.ndarray
    side: np.ndarray
    side_next: np.ndarray
    side_end: np.ndarray
    mini: bool

    @classmethod
    def for_encoding(
        cls, sizes: list[int], chunks: int, lanes: int, mini: bool
    ) -> Lanes:
        """Make room for passes of ``sizes`` symbols: at most one word for each."""
        room = [0] * chunks
        for n in sizes:
            for chunk, part in enumerate(split_pass(n, chunks, lanes)):
                room[chunk] += part.stop - part.start
        first, ends = _edges(room)
        states = np.full((chunks, lanes), START if mini else LOWER, np.uint32)
        words = np.empty(int(ends[-1]), dtype=np.uint16)
        side, none = np.empty(0, dtype=np.int16), np.zeros(chunks, np.int64)
        return cls(states, words, ends, first, side, none, none, mini)

    @classmethod
    def for_decoding(cls, frame: Frame) -> Lanes:
        """Start where the frame's encoder ended."""
        words = np.concatenate(frame.words, dtype=np.uint16)
        word, word_end = _edges([part.size for part in frame.words])
        side = np.concatenate(frame.side, dtype=np.int16)
        side_next, side_end = _edges([part.size for part in frame.side])
        states, mini = frame.states.copy(), frame.mini
        return cls(states, words, word, word_end, side, side_next, side_end, mini)

    def split(self, n: int) -> list[slice]:
        """Return the symbols of a pass of ``n``, see :func:`split_pass`."""
        return split_pass(n, *self.states.shape)

    def check_end(self) -> None:
        """Raise BitstreamError unless all was read and all lanes are at their start."""
        home = START if self.mini else LOWER
        if (
            self.word.tolist() == self.word_end.tolist()
            and self.side_next.tolist() == self.side_end.tolist()
            and not np.count_nonzero(self.states != home)
        ):
            return
        chunks = self.states.shape[0]
        for chunk in range(chunks):
            words = int(self.word_end[chunk] - self.word[chunk])
            side = int(self.side_end[chunk] - self.side_next[chunk])
            away = int((self.states[chunk] != home).sum())
            if words or side or away:
                raise BitstreamError(
                    f"chunk {chunk} of {chunks} did not end as it must: {words} words "
                    f"and {side} escapes left over, {away} lanes not at their start; "
                    "it is corrupt, or was coded with other tables or indexes"
                )

    def words_ran_out(self, chunk: int) -> BitstreamError:
        """Return the error for a chunk whose words are used up too early."""
        return TruncatedError(
            f"chunk {chunk} of {self.states.shape[0]} ran out of words; it is cut or "
            "corrupt, or was coded with other tables or indexes"
        )

    def side_ran_out(self, chunk: int) -> BitstreamError:
        """Return the error for a chunk whose side list is used up too early."""
        return TruncatedError(
            f"chunk {chunk} of {self.states.shape[0]} ran out of escapes; it is cut or "
            "corrupt, or was coded with other tables or indexes"
        )
