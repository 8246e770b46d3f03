# SPDX-License-Identifier: Apache-2.0
"""A codebook found by structural entropy."""
