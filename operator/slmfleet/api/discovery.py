"""A Router's discovery: when tasks are looked for, what they are called, what is made of them, and the last run."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from slmfleet.api import specialist
from slmfleet.api.base import Digest, Model, Resources, SecretKey, Text, rules


class SpecialistTemplate(Model):
    """What every Specialist that is made by itself is asked for; fields as in a Specialist's spec."""

    model_config = ConfigDict(json_schema_extra=rules(specialist.NEEDS_HOLDBACK))
    base: specialist.Base = Field(default_factory=specialist.Base, description="Which base model.")
    dataset: specialist.Dataset = Field(default_factory=specialist.Dataset, description="What is trained on.")
    training: specialist.Training = Field(default_factory=specialist.Training, description="How it is trained.")
    gate: specialist.Gate = Field(description="What it must show.")
    serving: specialist.Serving = Field(default_factory=specialist.Serving, description="How it is served.")
    rollout: specialist.Rollout = Field(default_factory=specialist.Rollout, description="How traffic moves over.")
    retrain: specialist.Retrain | None = Field(None, description="When it is trained again.")


class Naming(Model):
    """What new tasks are called."""

    mode: Literal["Words", "LLM"] = Field(
        "Words", description="Words: by their own. LLM: spec.llm is asked, about redacted examples alone."
    )
    model: str | None = Field(None, min_length=1, max_length=253, description="Model to ask; absent: llm.model.")
    api_key_secret_ref: SecretKey | None = Field(None, description="Key to ask with; absent: llm.apiKeySecretRef.")


class Discovery(Model):
    """When and how tasks are looked for (S3)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.mode == 'Suggest' || has(self.specialist)",
                "discovery.mode Auto needs discovery.specialist: what its Specialists are asked for",
                ".specialist",
            ),
        ),
    )
    enabled: bool = Field(True, description="Whether tasks are looked for.")
    minimum_calls: int = Field(1000, ge=10, le=100000000, description="New calls in the log before a run.")
    interval_seconds: int = Field(3600, ge=10, le=31536000, description="Shortest time between two runs.")
    minimum_share_percent: float = Field(1, gt=0, le=100, description="A task's least share of all calls.")
    mode: Literal["Suggest", "Auto"] = Field(
        "Suggest", description="Auto: a Specialist is made for each task that is found suitable and has none."
    )
    naming: Naming = Field(default_factory=Naming, description="What new tasks are called.")
    specialist: SpecialistTemplate | None = Field(None, description="What those Specialists are asked for.")
    foreign_call_percent: float = Field(1, gt=0, le=50, description="Tolerated share of foreign calls taken.")
    resources: Resources = Field(default_factory=Resources, description="Of the discovery and curation jobs.")


class DiscoveryStatus(Model):
    """The last discovery."""

    run: int = Field(0, ge=0, description="Number of the last finished run.")
    job: str | None = Field(None, max_length=253, description="Job under way.")
    time: datetime | None = Field(None, description="When the last run finished.")
    captured_at_run: int = Field(0, ge=0, description="Calls in the log when it started.")
    clusters: int = Field(0, ge=0, description="Tasks found.")
    unassigned_percent: float | None = Field(None, ge=0, le=100, description="Calls of no task.")
    sample_percent: float | None = Field(
        None, gt=0, le=100, description="Conversations that tasks were sought in, where the log was too large for all."
    )
    classifier: Digest | None = Field(None, description="Digest of the routing classifier in use.")
    classifier_run: int | None = Field(None, ge=0, description="Run that trained it.")
    classifier_figures: Text | None = Field(None, description="What it did on held-out traffic.")
    classifier_refused: Text | None = Field(None, description="Why the last run's classifier is not used, if so.")
    naming: Text | None = Field(None, description="What came of asking the LLM for names, in the last run.")
    own_words: int | None = Field(None, ge=0, description="Tasks that it gave no name or title.")
    foreign_rate_percent: float | None = Field(None, description="Foreign calls it took, on held-out traffic.")
