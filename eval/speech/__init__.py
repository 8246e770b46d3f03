# SPDX-License-Identifier: Apache-2.0
"""From utterances to quality over kilobits a second, and a page one can listen to.

    data set ──► run.evaluate ──► measure ──► results.jsonl   one line per file
                     │              ▲
                     │       subjects (our codecs) and anchors (Opus, Codec2)
                     └──► curves ──► report: plots, table, page with players

As with pictures, every rate is the size of real bytes and every figure was taken
from the sound decoded from them. All of it at 16 kHz, one channel.
"""
