# SPDX-License-Identifier: Apache-2.0
"""Entropy models of code indexes."""
