# SPDX-License-Identifier: Apache-2.0
"""Layers whose results are the same bits on every machine."""
