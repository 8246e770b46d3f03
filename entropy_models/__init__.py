# SPDX-License-Identifier: Apache-2.0
"""Probabilities: priors, contexts, the three coders, integer tables, exact arithmetic."""

PARTS = ("context",)
