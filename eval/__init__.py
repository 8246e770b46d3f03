# SPDX-License-Identifier: Apache-2.0
"""From signals to rate-distortion curves and one page to look at, for every kind.

    data set ──► run.evaluate ──► measure ──► results.jsonl   one line a coding
                     │              ▲
                     │       subjects (our codecs) and anchors (JPEG, Opus, ...)
                     └──► result: curves, tables ──► report: plots, page

Every rate is the size of real bytes, every signal was decoded from them. What differs
between kinds of signal stands in a folder each, under the same file names:

    datasets  subjects  anchors  measure  curves  result  tables  plots  samples  report
    kind      ties them together; kinds.py lists the kinds there are
"""
