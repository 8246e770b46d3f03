# SPDX-License-Identifier: Apache-2.0
"""The range coder: one arithmetic, several back ends, one bitstream.

    tables  = TableSet.from_pmfs([pmf], minimum=[-8], precision=12, escape=[1e-4])
    encoder = StreamEncoder()
    encoder.put(symbols, indexes, tables)
    data    = encoder.finish()

    decoder = StreamDecoder(data)
    symbols = decoder.get(indexes, tables)
    decoder.finish()

Batches of streams on a GPU, the same bytes from tensors that stay there:

    encoder = BatchEncoder(B, on("cuda"))    put (B, n) tensors, finish: B streams
    decoder = BatchDecoder(data, on("cuda"))

Operators for torch.compile and torch.export: torch_ops.py, imported when wanted.

The bitstream is written down in FORMAT.md and, as code, in reference.py.
"""

from polycodec.cuda.backends import backend
from polycodec.cuda.checksum import crc32c
from polycodec.cuda.device import BatchDecoder, BatchEncoder
from polycodec.cuda.device_checksum import BatchChecksum
from polycodec.cuda.driver import on, runtime_of
from polycodec.cuda.stream import StreamDecoder, StreamEncoder
from polycodec.cuda.tables import TableSet

__all__ = [
    "BatchChecksum",
    "BatchDecoder",
    "BatchEncoder",
    "StreamDecoder",
    "StreamEncoder",
    "TableSet",
    "backend",
    "crc32c",
    "on",
    "runtime_of",
]
