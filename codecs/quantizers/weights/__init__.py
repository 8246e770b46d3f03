# SPDX-License-Identifier: Apache-2.0
"""Quantizers of weights: a matrix to bytes and back, the same numbers everywhere."""
