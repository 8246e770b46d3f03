# SPDX-License-Identifier: Apache-2.0
"""Fitting a network to one signal, while encoding: loss, steps, rate, checkpoints."""
