# SPDX-License-Identifier: Apache-2.0
"""The body of a mini stream: one lane's state and words in as few bytes as possible.

    body := state, 0..3 bytes | words u16          L bytes together

The stream's length is known from outside, and it alone says where the state ends:

    L <= 3    L bytes of state, no words
    L >= 4    2 bytes of state if L is even, 3 if it is odd

The lowest ``bits`` bits of the state may stand elsewhere (in the head byte). The lane
starts at 1, so a stream that says nothing has no bytes. A state too large for 3
bytes gives one more word away, which the reader takes back at once.
"""

from __future__ import annotations

import numpy as np

from polycodec.errors import BitstreamError

START = 1  # BITSTREAM: where the lane starts; nothing is known, nothing is stored
_LOWER = 1 << 16  # BITSTREAM: below it a word is read, while there are any
_BYTES = 3  # BITSTREAM: of state at most


def write_body(state: int, words: np.ndarray, bits: int) -> tuple[int, bytes]:
    """Return the state's lowest ``bits`` bits, and the body.

    state: 1 .. 2^32 - 1, and at least 2^16 if there are words. words: (W,) uint16.
    """
    low_mask = (1 << bits) - 1
    if state >> (8 * _BYTES + bits):
        words = np.concatenate([np.array([state & 0xFFFF], np.uint16), words])
        state >>= 16
    high = state >> bits
    size = (high.bit_length() + 7) // 8
    if state == START:
        size = 0
    body = high.to_bytes(4, "little")[:size] + words.astype("<u2").tobytes()
    return state & low_mask, body


def read_body(body: memoryview, low: int, bits: int) -> tuple[int, np.ndarray]:
    """Return the state and the words (W,) uint16; ``low``: its lowest bits."""
    length = len(body)
    size = length if length <= _BYTES else 2 + length % 2
    state = int.from_bytes(body[:size], "little") << bits | low
    if size and not body[size - 1]:
        raise BitstreamError("the mini stream's state has a byte too many; corrupt")
    if not size and not bits:
        state = START
    elif state == 0 or (state == START and size):
        raise BitstreamError("no mini stream ends in this state; it is corrupt")
    words = np.frombuffer(body[size:], "<u2").astype(np.uint16)
    if state < _LOWER and words.size:
        state, words = state << 16 | int(words[0]), words[1:]
    return state, words
