# SPDX-License-Identifier: Apache-2.0
"""The sections of a run on speech: losses, stages, rates, discriminators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from polycodec.train.sections import Section


class LossSection(Section):
    """What a speech codec minimises: weights and resolutions (`loss`)."""

    mel: float = Field(15.0, ge=0, description="L1 of log10 mel magnitudes")
    mel_linear: float = Field(0.0, ge=0, description="L1 of mel magnitudes")
    windows: tuple[int, ...] = Field(
        (128, 256, 512, 1024, 2048), min_length=1, description="samples a window"
    )
    mels: tuple[int, ...] = Field((10, 20, 40, 80, 80), description="bands a window")
    overlap: Literal[2, 4] = Field(2, description="windows over each sample")
    spectrum: float = Field(20.0, ge=0, description="L1 of compressed spectra")
    spectrum_windows: tuple[int, ...] = Field((512,), description="some of windows")
    wave: float = Field(5.0, ge=0, description="L1 of samples by mean magnitude")
    loudness: float = Field(0.0, ge=0, description="how loud the error is")
    balance: bool = Field(
        False, description="weights are shares of the gradient (`balancer`)"
    )


class StagesSection(Section):
    """How the codebooks of a token codec come to be (`stages`)."""

    build: bool = Field(True, description="initialise codebooks from latents")
    unquantized: int = Field(0, ge=0, description="first steps without a quantizer")
    frames: int = Field(20000, ge=16, description="latents that codebooks start from")
    rebuild: int = Field(0, ge=0, description="build again at this step; 0: never")
    vary: float = Field(
        0.5, ge=0, le=1, description="share of items with a random number of levels"
    )


class RatesSection(Section):
    """What bits cost at the rates of a latent codec (`task_latent`)."""

    kbps: tuple[float, float] = Field(
        (1.5, 8.0), description="wanted at the lowest and at the highest rate"
    )
    weight: tuple[float, float] = Field(
        (1.3, 0.25), description="loss of a kilobit a second there, to begin with"
    )
    follow: float = Field(
        0.001, ge=0, description="how fast weights move until rates are as wanted"
    )

    @field_validator("kbps", "weight")
    @classmethod
    def _positive(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if min(ends) <= 0:
            raise ValueError("expected two numbers above 0, of both ends")
        return ends


class AdversarySection(Section):
    """Discriminators (`discriminators`); none unless named."""

    names: tuple[Literal["stft", "period"], ...] = ()
    filters: int = Field(32, ge=1, description="width of the stft discriminator")
    windows: tuple[int, ...] = (2048, 1024, 512)
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    widths: tuple[int, ...] = Field(
        (32, 128, 512, 1024), min_length=1, description="of the period discriminator"
    )
    kind: Literal["hinge", "least-squares"] = "hinge"
    start: int = Field(0, ge=0, description="first step with them")
    lr: float = Field(3e-4, gt=0)
    weight: float = Field(4.0, ge=0, description="of the adversarial loss")
    feature: float = Field(4.0, ge=0, description="of feature matching")
