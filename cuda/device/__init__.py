# SPDX-License-Identifier: Apache-2.0
"""The range coder on a GPU: kernels, their compiler, the driver."""
