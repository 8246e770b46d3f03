# SPDX-License-Identifier: Apache-2.0
"""Whole codecs in three families, their transforms, files and weights."""
