# SPDX-License-Identifier: Apache-2.0
"""From signals to rate-distortion curves and one page to look at, for every kind.

    data set ──► run.evaluate ──► measure ──► results.jsonl   one line a coding
                     │              ▲
                     │       subjects (our codecs) and anchors (JPEG, Opus, ...)
                     └──► curves ──► result: tables ──► report: plots, page

Every rate is the size of real bytes, every signal was decoded from them. All of it is
written once; what differs between kinds of signal stands in a folder each, under the
same file names:

    datasets  subjects  anchors  result  samples      kind  ties them together
"""
