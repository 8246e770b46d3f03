# SPDX-License-Identifier: Apache-2.0
"""What a slice of a latent may look at while it is coded: parts `reference/*`."""
