# SPDX-License-Identifier: Apache-2.0
"""The C library of the range coder: SIMD kernels, threads, layouts of tables."""
