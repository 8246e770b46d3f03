# SPDX-License-Identifier: Apache-2.0
"""The sections of a training run: every key, its type, its range, its default.

    codec  data  optim  run  eval        every run
    loss  stages  rates  adversary       speech; all but rates: tokens of images too
    priors                               the Bayesian family
    classes                              the feature family

A section that a task does not read stays at its defaults; see `Task.sections`.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from polycodec.train.precision import Precision

# A path; shells leave ~ as it is behind an equals sign.
Place = Annotated[str, AfterValidator(os.path.expanduser)]
Quality = Annotated[float, Field(ge=0, le=100)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CodecSection(Section):
    """The composition: a registered family and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field("latent", description="registered codec family")

    def options(self) -> dict[str, Any]:
        """Return everything but the name: keyword arguments of the family."""
        return {k: v for k, v in self.model_dump().items() if k != "name"}

    def trained(self) -> dict[str, Any]:
        """Return the options that training builds with.

        Statistics of tokens are taken at export, when the codebooks are final.
        """
        unused = {"entropy"} if self.name == "token" else set()
        return {k: v for k, v in self.options().items() if k not in unused}


class DataSection(Section):
    """Where training signals come from."""

    train: Place = Field(description="folder of images or of speech")
    cache: Place = Field("runs/cache", description="decoded signals are kept here")
    crop: int = Field(128, ge=64, multiple_of=64, description="image: side in pixels")
    seconds: float = Field(1.0, gt=0, le=60, description="speech: length of a crop")
    gain: tuple[float, float] = Field(
        (-12.0, 3.0), description="speech: random gain, between these decibels"
    )
    batch: int = Field(8, ge=1, description="crops a step and device")
    holdout: int = Field(
        20, ge=2, description="every n-th image, or speaker, validates"
    )


# Options of an optimizer that are the loop's to give.
GIVEN = {"lr": "optim.lr", "params": "the codec", "matrices": "the codec"}


class OptimSection(Section):
    """How weights move."""

    name: str = Field("muon", description="registered optimizer")
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0, description="steps of linear warm-up")
    decay: float = Field(0.5, ge=0, le=1, description="last part, falling to 0")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of averaged weights")
    balance: float = Field(
        0.5, ge=0, le=1, description="loss of level λ counts λ^-balance"
    )
    only: tuple[str, ...] = Field(
        (), description="train weights with these prefixes; all others stay as they are"
    )
    rounded: bool = Field(
        False, description="round latents as the encoder does: for a frozen encoder"
    )
    options: dict[str, float | tuple[float, ...]] = Field(
        {}, description="of the optimizer itself: weight_decay and momentum"
    )

    @field_validator("options")
    @classmethod
    def _own(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in GIVEN:
                raise ValueError(f"{name} is no option here, {GIVEN[name]} decides it")
        return options


class RunSection(Section):
    """How long, where, and how precisely."""

    out: Place = Field(description="folder of checkpoints and logs")
    steps: int = Field(ge=1)
    seed: int = 0
    precision: Precision | Literal["auto"] = Field(
        "bf16-mixed", description="auto: what is faster here, by timing a few steps"
    )
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1)
    compile: bool = False
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    log_every: int = Field(50, ge=1)
    init: Place | None = Field(
        None,
        description="weights to start from: a model's name, a file, or a run's folder",
    )


class EvalSection(Section):
    """Rate and distortion on the validation split while training."""

    every: int = Field(1000, ge=1, description="steps")
    images: int = Field(16, ge=1)
    size: int = Field(256, ge=64, multiple_of=64)
    qualities: tuple[Quality, ...] = Field(
        (0, 15, 30, 45, 60, 75, 90, 100), min_length=1
    )
    utterances: int = Field(12, ge=1, description="speech: how many are measured")
    seconds: float = Field(4.0, gt=0, description="speech: at most this much of each")
    levels: tuple[int, ...] = Field(
        (), description="speech: numbers of code levels; empty: powers of 2 and all"
    )


class LossSection(Section):
    """What a speech codec minimises: weights and resolutions (`loss`).

    And of tokens of images how much counts beside the squared error.
    """

    perceptual: float = Field(0.0, ge=0, description="image: `image.perceptual`")
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
    balance: bool = Field(False, description="weights are shares of the gradient ")


class StagesSection(Section):
    """How the codebooks of a token codec come to be (`stages`)."""

    build: bool = Field(True, description="initialise codebooks from latents")
    unquantized: int = Field(0, ge=0, description="first steps without a quantizer")
    frames: int = Field(20000, ge=16, description="latents that codebooks start from")
    rebuild: int = Field(0, ge=0, description="build again at this step; 0: never")
    renew: int = Field(
        0, ge=0, description="image: steps between new starts of dead codes; 0: none"
    )
    vary: float = Field(
        0.5, ge=0, le=1, description="share of items with a random number of levels"
    )


class RatesSection(Section):
    """What bits cost at the rates of a latent codec ."""

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

    names: tuple[Literal["stft", "period", "patch"], ...] = ()
    filters: int = Field(
        32, ge=1, description="width of the stft and the patch discriminator"
    )
    windows: tuple[int, ...] = (2048, 1024, 512)
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    widths: tuple[int, ...] = Field(
        (32, 128, 512, 1024), min_length=1, description="of the period discriminator"
    )
    kind: Literal["hinge", "linear", "least-squares"] = "hinge"
    start: int = Field(0, ge=0, description="first step with them")
    lr: float = Field(3e-4, gt=0)
    weight: float = Field(4.0, ge=0, description="of the adversarial loss")
    feature: float = Field(4.0, ge=0, description="of feature matching")


class PriorsSection(Section):
    """Signals whose posteriors priors are learned from (`bayesian`)."""

    signals: int = Field(1024, ge=2, description="how many have a posterior, at most")
    pieces: int = Field(1, ge=1, description="of the codec, along each axis of a crop")
    every: int = Field(50, ge=1, description="steps of a rate between its priors")
    lr: float = Field(0.05, gt=0, description="of posteriors, in units of the prior")
    beta: tuple[float, ...] = Field(
        (2e-6,), description="error that a nat is worth, of each rate, or of all"
    )
    settle: int = Field(2000, ge=0, description="steps of a rate before β moves")
    factor: float = Field(
        1.02, gt=1, description="of β in a pass, where bits are not as wanted"
    )
    band: float = Field(0.05, ge=0, lt=1, description="share of them that may lack")


class ClassesSection(Section):
    """Pictures of classes, and a teacher of them (`features.task`)."""

    teacher: Place | None = Field(None, description="folder of the teacher's run")
    beta: tuple[float, ...] = Field(
        (2.56, 0.08),
        description="of a bit, in squared error, at the first and last level, or at "
        "each",
    )
    soft: float = Field(0.5, ge=0, le=1, description="weight of the teacher's answers")
    temperature: float = Field(1.0, gt=0, description="of both answers")
    smooth: float = Field(0.1, ge=0, lt=1, description="of labels, for a teacher")
    area: float = Field(
        1.0, gt=0, le=1, description="least part of a picture that is cut out; 1: none"
    )
    shift: float = Field(
        0.125, ge=0, le=0.5, description="else how far pictures move, of their side"
    )
    hole: float = Field(0.0, ge=0, lt=1, description="side of a gray hole, likewise")
