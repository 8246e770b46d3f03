# SPDX-License-Identifier: Apache-2.0
"""Training configs that the package ships: one default or published system a file."""
