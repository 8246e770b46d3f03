# SPDX-License-Identifier: Apache-2.0
"""Probabilities: priors, contexts, three coders, tables, exact arithmetic."""
