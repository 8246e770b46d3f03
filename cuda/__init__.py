# SPDX-License-Identifier: Apache-2.0
"""The range coder: one arithmetic, several back ends, one bitstream.

    tables  = TableSet.from_pmfs([pmf], minimum=[-8], precision=12, escape=[1e-4])
    encoder = StreamEncoder()
    encoder.put(symbols, indexes, tables)
    data    = encoder.finish()

    decoder = StreamDecoder(data)
    symbols = decoder.get(indexes, tables)
    decoder.finish()

Distributions of their own for every symbol, in integers, in the same stream:

    scales  = ScaleSet.from_scales([0.5, 1.0, 2.0])
    prior   = Mixture(scales, means, indexes, weights)      fractional means, 1..4 each
    prior   = Categorical(logits)
    encoder.put_prior(symbols, prior)        symbols = decoder.get_prior(prior)

Batches of streams on a GPU, the same bytes from tensors that stay there:

    encoder = BatchEncoder(B, on("cuda"))    put (B, n) tensors, finish: B streams
    decoder = BatchDecoder(data, on("cuda"))

Operators for torch.compile and torch.export: torch_ops.py, imported when wanted.

The bitstream is written down in FORMAT.md and, as code, in reference.py.
"""

from polycodec.cuda.backends import backend
from polycodec.cuda.device.batch import BatchDecoder, BatchEncoder
from polycodec.cuda.device.checksum import BatchChecksum
from polycodec.cuda.device.driver import on, runtime_of
from polycodec.cuda.device.priors import BatchCategorical, BatchMixture
from polycodec.cuda.host.checksum import crc32c
from polycodec.cuda.priors.categorical import Categorical, shares
from polycodec.cuda.priors.mixture import Mixture, ScaleSet
from polycodec.cuda.stream import StreamDecoder, StreamEncoder
from polycodec.cuda.tables import TableSet

__all__ = [
    "BatchCategorical",
    "BatchChecksum",
    "BatchDecoder",
    "BatchEncoder",
    "BatchMixture",
    "Categorical",
    "Mixture",
    "ScaleSet",
    "StreamDecoder",
    "StreamEncoder",
    "TableSet",
    "backend",
    "crc32c",
    "on",
    "runtime_of",
    "shares",
]
