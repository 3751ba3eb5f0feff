"""The operator's own settings, as the chart writes them (config.yaml)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Setting(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Mount(_Setting):
    """A claim mounted read-only."""

    claim_name: str
    mount_path: str


class Images(_Setting):
    """Images of what the operator starts."""

    slmfleet: str = "slmfleet:0.1.0"
    trainer: str = "slmfleet-trainer:0.1.0"
    pool: str = "slmfleet-pool:0.1.0"


class Environment(_Setting):
    """Where a heavy Python environment is: in the image, or on a claim."""

    python: str = "/opt/slmfleet/env/bin/python"
    volumes: tuple[Mount, ...] = ()


class Config(_Setting):
    """Everything that is not in an object's spec."""

    namespace: str
    store_claim: str = "slmfleet-store"
    store_mount: str = "/store"
    images: Images = Images()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    trainer: Environment = Environment()
    pool: Environment = Environment()
    kube_ray: Literal["auto", "never"] = Field("auto", description="auto: RayJob where the kind is installed.")
    auto_specialists: bool = Field(False, description="Whether Routers may have Specialists made by themselves.")
    resync_seconds: float = 5.0
    signals_seconds: float = 1.0
