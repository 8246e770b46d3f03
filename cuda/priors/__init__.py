# SPDX-License-Identifier: Apache-2.0
"""Distributions evaluated while coding, in integers: mixtures and categorical ones."""
