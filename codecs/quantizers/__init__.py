# SPDX-License-Identifier: Apache-2.0
"""Vectors to codebook indexes and back. One file and one @register each."""
