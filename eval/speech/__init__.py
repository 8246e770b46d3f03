# SPDX-License-Identifier: Apache-2.0
"""Evaluation on speech: measures over kilobits a second, a page one can listen to.

All of it at 16 kHz, one channel, 16-bit samples.
"""
