# SPDX-License-Identifier: Apache-2.0
"""Relative entropy coding: a sample of a posterior as its number under a prior."""
