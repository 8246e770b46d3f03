# SPDX-License-Identifier: Apache-2.0
"""Codebooks of several resolutions, each for what coarser ones leave."""
