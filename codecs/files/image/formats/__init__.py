# SPDX-License-Identifier: Apache-2.0
"""The file formats of images, one a file: what stands beside their pixels.

scan(file, found)     fill `found`, refuse what is cut or damaged, by name
put...(...)           the same fields into a file that is written

Pixels come from Pillow; what it leaves out, drops or passes over in silence is found
here by walking the file's own structure (chunks, segments, boxes, blocks).
"""
