# SPDX-License-Identifier: Apache-2.0
"""Probabilities: priors, contexts, three coders, tables, exact arithmetic."""

PARTS = (
    "autoregressive",
    "context",
    "factorized_model",
    "tokens_adaptive",
    "tokens_static",
    "tokens_transformer",
)
