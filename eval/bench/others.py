# SPDX-License-Identifier: Apache-2.0
"""Other people's range coders behind one small face, for the coder's benchmark.

    coder(load)  ->  encode() -> data, decode(data) -> symbols

Whatever a coder can prepare once per model (tables, CDFs) is prepared before the
clock starts, in the form that its own users have it. Only what is installed is there:
constriction, CompressAI (its Python API, and its C++ binding alone with the lists
that it wants already made), torchac.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from polycodec.eval.bench.coder import Load


class Coder(NamedTuple):
    """A way to code one load: data may be anything that has a size in bytes."""

    encode: Callable[[], Any]
    decode: Callable[[Any], np.ndarray]
    size: Callable[[Any], int] = len


def installed() -> dict[str, Callable[[Load], Coder | None]]:
    """Return the coders that can be imported; they give None for what they cannot."""
    found: dict[str, Callable[[Load], Coder | None]] = {}
    if _works("constriction"):
        found["constriction range"] = constriction_range
        found["constriction ANS"] = constriction_ans
    if _works("compressai.entropy_models"):
        found["CompressAI"] = compressai_api
        found["compressai.ans alone"] = compressai_ans
    if _works("torchac"):
        found["torchac"] = torchac_rows
    return found


def _works(module: str) -> bool:
    """Whether a peer is here whole: some come without what they import."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def constriction_range(load: Load) -> Coder:
    """Range coder with its own model: exact CDFs, evaluated for every symbol."""
    return range_coder(load.symbols, *_constriction_model(load))


def range_coder(symbols: np.ndarray, model: Any, *parameters: Any) -> Coder:
    """Constriction's range coder; a model without ``parameters`` is of all symbols."""
    from constriction import stream

    def encode() -> np.ndarray:
        coder = stream.queue.RangeEncoder()
        coder.encode(symbols, model, *parameters)
        return coder.get_compressed()

    def decode(words: np.ndarray) -> np.ndarray:
        some = parameters or [symbols.size]
        return stream.queue.RangeDecoder(words).decode(model, *some)

    return Coder(encode, decode, lambda words: words.nbytes)


def constriction_ans(load: Load) -> Coder:
    """Its ANS coder: the same model, a stack."""
    from constriction import stream

    model, *parameters = _constriction_model(load)

    def encode() -> np.ndarray:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(load.symbols, model, *parameters)
        return coder.get_compressed()

    def decode(words: np.ndarray) -> np.ndarray:
        some = parameters or [load.symbols.size]
        return stream.stack.AnsCoder(words).decode(model, *some)

    return Coder(encode, decode, lambda words: words.nbytes)


def _constriction_model(load: Load) -> list[Any]:
    from constriction import stream

    if load.pmf is not None:
        return [stream.model.Categorical(load.pmf, perfect=False)]
    deviations = load.scales[load.indexes]
    means = np.zeros_like(deviations)
    return [stream.model.QuantizedGaussian(-load.reach, load.reach), means, deviations]


def compressai_api(load: Load) -> Coder | None:
    """``GaussianConditional``: tensors in, bytes out, as a codec of theirs does it."""
    if load.pmf is not None or load.symbols.size < 2:
        return None  # a stream of 0 or 1 symbols overruns its buffer
    import torch
    from compressai.entropy_models import GaussianConditional

    model = GaussianConditional(load.scales.tolist())
    model.update()
    shape = (1, 1, 1, load.symbols.size)
    values = torch.from_numpy(load.symbols.astype(np.float32)).reshape(shape)
    indexes = torch.from_numpy(load.indexes.astype(np.int32)).reshape(shape)

    def decode(data: list[bytes]) -> np.ndarray:
        return model.decompress(data, indexes).numpy().reshape(-1).astype(np.int32)

    return Coder(
        lambda: model.compress(values, indexes), decode, lambda data: len(data[0])
    )


def compressai_ans(load: Load) -> Coder | None:
    """Its C++ binding alone: no tensors, all lists made before the clock starts."""
    if load.symbols.size < 2:
        return None
    from compressai import ans

    if load.pmf is None:
        from compressai.entropy_models import GaussianConditional

        model = GaussianConditional(load.scales.tolist())
        model.update()
        tables = [
            model.quantized_cdf.tolist(),
            model.cdf_length.reshape(-1).int().tolist(),
            model.offset.reshape(-1).int().tolist(),
        ]
    else:
        from compressai._CXX import pmf_to_quantized_cdf

        # One entry more: the place of its escape.
        cdf = pmf_to_quantized_cdf([*load.pmf.tolist(), 1e-9], 16)
        tables = [[list(cdf)], [len(cdf)], [0]]
    symbols, indexes = load.symbols.tolist(), load.indexes.tolist()
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()
    return Coder(
        lambda: encoder.encode_with_indexes(symbols, indexes, *tables),
        lambda data: np.array(
            decoder.decode_with_indexes(data, indexes, *tables), np.int32
        ),
    )


def torchac_rows(load: Load) -> Coder | None:
    """It wants a CDF for each symbol: made before the clock starts, 16 bits each."""
    if load.pmf is not None:
        return None  # a thousand entries for each symbol: 1 GB
    import torch
    import torchac

    edges = (np.arange(-load.reach, load.reach + 2) - 0.5)[None] / load.scales[:, None]
    cdf = 0.5 * (1 + torch.erf(torch.from_numpy(edges) / 2**0.5))
    cdf[:, 0], cdf[:, -1] = 0, 1
    # Strictly increasing in 16 bits; the last entry, 2^16, wraps to 0 by its rules.
    steps = torch.arange(cdf.shape[1])
    whole = (cdf * (2**16 - cdf.shape[1] + 1)).round().long() + steps
    rows = (((whole + 2**15) % 2**16) - 2**15).to(torch.int16)
    rows = rows[torch.from_numpy(load.indexes.astype(np.int64))]
    symbols = torch.from_numpy((load.symbols + load.reach).astype(np.int16))

    def decode(data: bytes) -> np.ndarray:
        found = torchac.decode_int16_normalized_cdf(rows, data)
        return found.numpy().astype(np.int32) - load.reach

    return Coder(lambda: torchac.encode_int16_normalized_cdf(rows, symbols), decode)
