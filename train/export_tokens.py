# SPDX-License-Identifier: Apache-2.0
"""The token family's export: statistics of training tokens, then checks.

    weights as the file keeps them (float16) ─► codes of training recordings ─► fit
    file read back ─► held-out recordings:
        codes    the same before saving and after loading, for any cut of the signal
        tokens   real bytes give the codes back, with other threads and kernels too
        bytes    real bytes <= 1.01 estimate + 64
        sizes    one sample, and lengths that no frame divides, come back

Rates and measures on the card are those of real bytes on speakers never trained on.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec, load_codec
from polycodec.errors import CodecError, ModelError
from polycodec.registry import build
from polycodec.train.data_speech import SpeechCache
from polycodec.train.measures_speech import measure
from polycodec.train.sections import TrainConfig
from polycodec.train.selfcheck import MACHINES
from polycodec.train.task_speech import speech_source, validation_levels

ENTROPY = {"name": "tokens-adaptive"}  # unless the config names another
FITTED_SECONDS = 3600  # of training recordings whose tokens are counted, at most
SAID_EVERY = 10.0  # seconds
ODD_SAMPLES = (1, 319, 4001)
PIECE = 4321  # samples; a cut that falls on no frame


def write(
    codec: Codec, config: TrainConfig, part: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fit tables to ``codec``, write it to ``part``; returns what the card says."""
    recordings = SpeechCache(config.data.train, config.data.cache, codec.rate)
    source = speech_source(config, recordings, codec.rate, codec.hop)
    codec, stored = with_entropy(codec, config)
    codec.entropy.update()
    codec.save(part, stored)
    codec = load_codec(part)  # weights are rounded now: these codes are final
    chosen = _some(recordings, source.train, FITTED_SECONDS * codec.rate)
    codes = [_codes(codec, recordings[i]) for i in chosen]
    seconds = sum(one.shape[1] for one in codes) / codec.frame_rate
    say(f"fitting to the tokens of {len(codes)} recordings, {seconds:.0f} s")
    _fit(codec.entropy, codes, say)
    codec.entropy.update()
    held_out = [_signal(recordings[i]) for i in source.held_out]
    held_out = held_out[: config.eval.utterances]
    before = [codec.encode_codes(x) for x in held_out]
    codec.save(part, stored)
    codec = load_codec(part)
    for x, expected in zip(held_out, before, strict=True):
        _check_codes(codec, x, expected)
    say("codes: the same after loading, and for a signal in pieces")
    for levels in (1, codec.levels):
        _check_machines(codec, before[0][:, :levels])
    say(f"tokens: exact with {', '.join(MACHINES)}")
    _check_sizes(codec)
    say(f"sizes: {', '.join(map(str, ODD_SAMPLES))} samples came back")
    points = []
    for levels in validation_levels(config.eval.levels, codec.levels):
        points.append(_point(codec, held_out, levels))
        say("  ".join(f"{k} {v:.4g}" for k, v in points[-1].items()))
    return {
        "rate": codec.rate,
        "codes": list(codec.sizes),
        "recordings": f"{len(recordings)} in {Path(config.data.train).name}",
        "validation": points,
        "certificate": [],
    }


def with_entropy(codec: Codec, config: TrainConfig) -> tuple[Codec, dict[str, Any]]:
    """The trained codec with an entropy model for its tokens, and its stored config."""
    options = config.codec.options()
    quantizer = dict(options.get("quantizer") or {})
    if hasattr(codec.quantizer, "config_after_build"):
        quantizer |= codec.quantizer.config_after_build()
    options = {**options, "entropy": options.get("entropy") or ENTROPY}
    if quantizer:
        options["quantizer"] = quantizer
    whole = build(f"codec/{config.codec.name}", **options)
    missing, unknown = whole.load_state_dict(codec.state_dict(), strict=False)
    foreign = [k for k in missing if not k.startswith("entropy.")] + unknown
    if foreign:
        raise ModelError(
            f"the checkpoint does not fit its config; check {foreign[:3]}; export with "
            "the version that trained it"
        )
    return whole.eval(), {"name": config.codec.name, **options}


def _fit(model, codes: list[np.ndarray], say: Callable[[str], None]) -> None:
    """Fit a token model; one that takes minutes says now and then how far it is."""
    last = time.monotonic()

    def report(step: int, bits: float) -> None:
        nonlocal last
        if time.monotonic() - last > SAID_EVERY:
            last = time.monotonic()
            say(f"fitting: step {step}, {bits:.3f} bits a token")

    known = inspect.signature(model.fit).parameters
    model.fit(codes, **({"progress": report} if "progress" in known else {}))


def _some(recordings: SpeechCache, every: list[int], samples: int) -> list[int]:
    """Recordings evenly picked, of about ``samples`` together at most."""
    total = sum(recordings.lengths[i] for i in every)
    return every[:: max(1, math.ceil(total / samples))]


def _signal(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32) / 32768)[None, None]


def _codes(codec: Codec, samples: np.ndarray) -> np.ndarray:
    """Tokens (L, F) of a recording (T,) int16."""
    return codec.encode_codes(_signal(samples))[0].cpu().numpy()


def _check_codes(codec: Codec, x: Tensor, expected: Tensor) -> None:
    if not torch.equal(codec.encode_codes(x), expected):
        raise _failed("codes", "they differ after saving and loading")
    stream = codec.analysis_stream()
    pieces = [
        p for piece in codec.pad(x)[0].split(PIECE, 1) for p in stream.push(piece)
    ]
    if not torch.equal(torch.cat([*pieces, *stream.flush()], 1)[None], expected):
        raise _failed("codes", f"they differ for pieces of {PIECE} samples")


def _check_machines(codec: Codec, codes: Tensor) -> None:
    data = codec.encode_tokens(codes)
    for name, setting in MACHINES.items():
        with setting():
            if codec.encode_tokens(codes) != data:
                raise _failed("tokens", f"{name}: other bytes")
            _check_tokens(codec, data, codes, name)


def _check_tokens(codec: Codec, data: list[bytes], codes: Tensor, where: str) -> None:
    try:
        found = codec.decode_tokens(data, *codes.shape[1:])
    except CodecError as error:
        raise _failed("tokens", f"{where}: {error}") from error
    if not torch.equal(found, codes):
        share = 100 * float((found != codes).float().mean())
        raise _failed("tokens", f"{where}: {share:.2f} % of them differ")


def _check_sizes(codec: Codec) -> None:
    for samples in ODD_SAMPLES:
        x = torch.linspace(-0.5, 0.5, samples)[None, None]
        try:
            back = codec.decompress(codec.compress(x))
        except CodecError as error:
            raise _failed("sizes", f"{samples} samples: {error}") from error
        if back.shape != x.shape or not bool(back.isfinite().all()):
            raise _failed("sizes", f"{samples} samples came back as {back.shape}")


def _point(codec: Codec, signals: list[Tensor], levels: int) -> dict[str, float]:
    """Real and estimated kbps, and measures, of signals (1, 1, T) at some levels."""
    total, bits, samples = 0, 0.0, 0
    rows: list[dict[str, float]] = []
    for x in signals:
        codes = codec.encode_codes(x, levels)
        data = codec.encode_tokens(codes)
        estimate = float(codec.entropy.bits(codes).sum())
        if not 8 * len(data[0]) <= 1.01 * estimate + 8 * 64:
            raise _failed(
                "bytes",
                f"{len(data[0])} bytes at {levels} levels; expected at most "
                f"{1.01 * estimate / 8 + 64:.0f} for an estimate of {estimate / 8:.0f}",
            )
        _check_tokens(codec, data, codes, f"{levels} levels")
        x_hat = codec.decode_codes(codes)[..., : x.shape[-1]]
        rows.append(measure(x_hat, x, [x.shape[-1]], codec.rate))
        total, bits = total + 8 * len(data[0]), bits + estimate
        samples += x.shape[-1]
    seconds = samples / codec.rate
    fixed = codec.frame_rate * sum(math.log2(k) for k in codec.sizes[:levels])
    names = [n for n in rows[0] if all(n in row for row in rows)]
    return {
        "levels": levels,
        "kbps": total / seconds / 1000,
        "estimated_kbps": bits / seconds / 1000,
        "fixed_kbps": fixed / 1000,
        **{name: float(np.mean([row[name] for row in rows])) for name in names},
    }


def _failed(check: str, what: str) -> ModelError:
    return ModelError(
        f"self-check '{check}' failed; {what}; this checkpoint is not a codec"
    )
