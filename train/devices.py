# SPDX-License-Identifier: Apache-2.0
"""The devices and processes of a run, as Lightning Fabric holds them."""

from __future__ import annotations

import os

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

from polycodec.errors import UsageError
from polycodec.train.config import TrainConfig


def fabric_of(config: TrainConfig) -> Fabric:
    """Take the devices of the config, or as many processes as torchrun has started.

    Fabric's own mixed precision would also round the inputs, pixels and rate level,
    to bfloat16; autocast alone leaves them as they are.
    """
    run = config.run
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 0))  # set by torchrun
    # Weights of a quantizer have no gradient while latents pass as they are.
    idle = config.stages.unquantized > 0 and max(local, run.devices) > 1
    strategy = "ddp_find_unused_parameters_true" if idle else "auto"
    if not local:
        try:
            return Fabric(
                accelerator=run.accelerator, devices=run.devices, strategy=strategy
            )
        except (RuntimeError, MisconfigurationException) as error:
            raise UsageError(
                f"run.accelerator is {run.accelerator}, run.devices {run.devices}, and "
                f"this machine has not so many; {error}"
            ) from error
    if run.devices not in (1, local):
        raise UsageError(
            f"run.devices is {run.devices}, torchrun started {local} processes here; "
            "leave run.devices out, or make them equal"
        )
    nodes = int(os.environ["WORLD_SIZE"]) // local
    return Fabric(
        accelerator=run.accelerator, devices=local, num_nodes=nodes, strategy=strategy
    )
