# SPDX-License-Identifier: Apache-2.0
"""Entropy models of latents: what is coded in which order, given what."""
