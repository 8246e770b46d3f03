# SPDX-License-Identifier: Apache-2.0
"""From pictures to rate-distortion curves, BD-rates and one page to look at.

    dataset ──► run.evaluate ──► measure ──► results.jsonl   one line per picture
                     │              ▲
                     │       subjects (our codecs) and anchors (JPEG, WebP, ...)
                     └──► curves ──► bdrate ──► report: plots, table, page

Every rate is the size of real bytes, every picture was decoded from them.
"""
