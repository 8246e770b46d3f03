# SPDX-License-Identifier: Apache-2.0
"""Weights at fewer bits: what harms, who gets the bits, what was lost."""
