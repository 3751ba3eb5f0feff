"""Shared pieces of the kinds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "slmfleet.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4096)]
Short = Annotated[str, Field(max_length=253)]


class Model(BaseModel):
    """Camel case on the wire, immutable here, and forgiving: a newer field must not break an older operator."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def rules(*items: tuple[str, str] | tuple[str, str, str]) -> dict[str, Any]:
    """CEL rules: expression, message, and optionally the path of the field to blame, e.g. ".labels"."""
    keys = ("rule", "message", "fieldPath")
    return {"x-kubernetes-validations": [dict(zip(keys, item, strict=False)) for item in items]}


def no_parent(field: str) -> tuple[str, str]:
    """A rule for paths: nothing above the folder that they start in."""
    return ("!self.contains('..')", f"{field} must not have .. in it")


def list_map(key: str) -> dict[str, Any]:
    """A list whose items server-side apply merges by one of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Model):
    """One aspect of an object's state, as in metav1.Condition."""

    type: str = Field(max_length=63, description="Aspect, e.g. Ready.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(min_length=1, max_length=63, pattern=r"^[A-Za-z]\w*$", description="One CamelCase word.")
    message: str = Field("", max_length=4096, description="What, where, and what to do.")
    observed_generation: int = Field(0, ge=0, description="The generation of the spec that this speaks of.")
    last_transition_time: datetime | None = Field(None, description="When status last changed.")


class Status(Model):
    """What every kind's status has."""

    observed_generation: int | None = Field(None, description="Generation of the spec that the operator last acted on.")
    conditions: list[Condition] = Field(
        default_factory=list, max_length=32, description="State by aspect.", json_schema_extra=list_map("type")
    )


class SecretKey(Model):
    """One key of a Secret in the same namespace."""

    name: Short = Field(min_length=1, description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in the Secret.")


class Prices(Model):
    """Price of a tier, in the Router's currency."""

    input_per_million: float = Field(0.0, ge=0, description="Per million input tokens.")
    output_per_million: float = Field(0.0, ge=0, description="Per million output tokens.")


class Resources(Model):
    """CPU and memory of one container; the request equals the limit for memory."""

    cpu: str = Field("1", max_length=16, pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="CPU request, e.g. 500m or 2.")
    memory: str = Field("2Gi", max_length=16, pattern=r"^[0-9]+(Ki|Mi|Gi|M|G)?$", description="Memory, e.g. 2Gi.")
    gpus: int = Field(0, ge=0, le=16, description="NVIDIA GPUs (nvidia.com/gpu).")


class OutputFormat(Model):
    """What a valid answer looks like."""

    type: Literal["json", "label", "tool", "text"] = Field(
        "text", description="JSON object, one bare label, calls of the request's tools, or free text."
    )
    json_schema: str | None = Field(None, max_length=65536, description="JSON schema of the answer, as JSON text.")
    labels: list[Annotated[str, Field(max_length=253)]] | None = Field(
        None, max_length=1024, description="Accepted labels."
    )
