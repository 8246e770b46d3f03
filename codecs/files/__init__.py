# SPDX-License-Identifier: Apache-2.0
"""Files: the ``.plc`` container, media in and out, tiles and rate control.

Light on purpose: ``polycodec info`` imports this package and never loads torch.
"""
