# SPDX-License-Identifier: Apache-2.0
"""Other people's range coders behind one small face, for the coder's benchmark.

    coder(load)  ->  encode() -> data, decode(data) -> symbols

Whatever a coder can prepare once per model (tables, CDFs) is prepared before the
clock starts, in the form that its own users have it. Only what is installed is there:
constriction, CompressAI (its Python API, and its C++ binding alone with the lists
that it wants already made).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from polycodec.eval.bench.loads import BINS, Load


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
    return found


def _works(module: str) -> bool:
    """Whether a peer is here whole: some come without what they import."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def constriction_range(load: Load) -> Coder | None:
    """Range coder with its own model: exact CDFs, evaluated for every symbol."""
    from constriction import stream

    pair = stream.queue.RangeEncoder, stream.queue.RangeDecoder
    return _constriction(load, *pair, "encode")


def constriction_ans(load: Load) -> Coder | None:
    """Stack coder (ANS), symbols pushed in reverse, as its users do."""
    from constriction import stream

    ans = stream.stack.AnsCoder
    return None if load.is_prior else _constriction(load, ans, ans, "encode_reverse")


def _constriction(
    load: Load, encoder: Any, decoder: Any, encode_with: str
) -> Coder | None:
    """Return a coder; a model without parameters is of all symbols."""
    model = _constriction_model(load)
    if model is None:
        return None

    def encode() -> np.ndarray:
        coder = encoder()
        getattr(coder, encode_with)(load.symbols, *model)
        return coder.get_compressed()

    some = model if len(model) > 1 else [*model, load.symbols.size]
    return Coder(
        encode, lambda words: decoder(words).decode(*some), lambda words: words.nbytes
    )


def _constriction_model(load: Load) -> list[Any] | None:
    """Return its model and the parameters of each symbol; it has no mixtures."""
    from constriction import stream

    if load.gaussian is not None:
        means, deviations, reach = load.gaussian
        return [stream.model.QuantizedGaussian(-reach, reach), means, deviations]
    if load.pmf is None:
        return None
    if load.pmf.ndim == 1:
        return [stream.model.Categorical(load.pmf, perfect=False)]
    return [stream.model.Categorical(perfect=False), load.pmf]


def compressai_api(load: Load) -> Coder | None:
    """``GaussianConditional``: tensors in, bytes out, as a codec of theirs does it."""
    if load.indexes is None or load.pmf is not None or load.symbols.size < 2:
        return None  # a stream of 0 or 1 symbols overruns its buffer
    import torch
    from compressai.entropy_models import GaussianConditional

    model = GaussianConditional(BINS.tolist())
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
    if load.indexes is None or load.symbols.size < 2:
        return None
    from compressai import ans

    if load.pmf is None:
        from compressai.entropy_models import GaussianConditional

        model = GaussianConditional(BINS.tolist())
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
