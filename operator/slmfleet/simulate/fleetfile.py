"""The fleet file: pools with their measured speed, the adapters on them, and the next tier.

`pools[].pool` takes the keys of `BaseModel.spec.pool`, with the same meaning, so that a manifest's pool can be pasted.
Unknown keys are refused by name, at every depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from slmfleet.api.base import Prices
from slmfleet.api.basemodel import PoolSpec
from slmfleet.simulate.problem import InputProblem

TIMEOUT_SECONDS = 10.0
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


class Keys(BaseModel):
    """Camel case, immutable, and strict."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")


class Service(Keys):
    """How fast one server of a pool is. Measure it; there are no defaults for speed."""

    prefill_tokens_per_second: Positive = Field(description="Prompt tokens a second; prompts go one after another.")
    decode_tokens_per_second: dict[Annotated[int, Field(ge=1)], Positive] = Field(
        min_length=1, description="All answers together, by calls in the batch; linear in between, flat beyond."
    )
    slots: int = Field(ge=1, le=10_000, description="Most calls in one batch; the server queues what is beyond.")
    cold_start_seconds: Seconds = Field(description="From a server wanted to a server that answers.")
    adapter_load_seconds: Seconds = Field(description="To load one adapter into a running server.")
    server_hour_price: Seconds | None = Field(None, description="Price of one server for one hour.")


class PoolFile(Keys):
    """One pool of servers for one base model."""

    name: Name = Field(description="Name of the base model.")
    pool: PoolSpec = Field(default_factory=PoolSpec, description="As in `BaseModel.spec.pool`.")
    service: Service = Field(description="How fast a server is.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.pool.min_replicas > self.pool.max_replicas:
            raise ValueError("pool.minReplicas must not exceed pool.maxReplicas")
        return self


class Adapter(Keys):
    """One specialist's adapter."""

    specialist: Name = Field(description="As in the trace.")
    pool: Name = Field(description="The pool that serves it.")
    timeout_seconds: Positive = Field(TIMEOUT_SECONDS, description="Then the call goes to the next tier.")


class NextTier(Keys):
    """Where a call goes that its pool does not answer. It is never full."""

    time_to_first_token_seconds: Seconds = Field(description="Until its first token.")
    tokens_per_second: Positive = Field(description="Of one answer.")
    prices: Prices | None = Field(None, description="Per million tokens: `inputPerMillion`, `outputPerMillion`.")


class Fleet(Keys):
    """Everything that is simulated but the calls."""

    pools: list[PoolFile] = Field(min_length=1, description="Pools.")
    adapters: list[Adapter] | None = Field(
        None, description="Adapters; absent: every specialist of the trace has one on the only pool."
    )
    llm: NextTier | None = Field(None, description="The next tier; absent: what a pool turns away is unserved.")

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [pool.name for pool in self.pools]
        _once("pools", names)
        if self.adapters is None and len(names) > 1:
            raise ValueError("adapters: with more than one pool, name the pool of each specialist")
        _once("adapters", [adapter.specialist for adapter in self.adapters or ()])
        for adapter in self.adapters or ():
            if adapter.pool not in names:
                raise ValueError(f"adapters: {adapter.specialist} is on {adapter.pool!r}, which is no pool here")
        return self

    def adapters_of(self, specialists: Iterable[str]) -> dict[str, Adapter]:
        """Adapter by specialist, for all of the file and of the trace. Raises InputProblem for one without."""
        found = {adapter.specialist: adapter for adapter in self.adapters or ()}
        for name in specialists:
            if name in found:
                continue
            if self.adapters is not None:
                raise InputProblem(f"specialist {name!r} of the trace has no entry in adapters; add one")
            found[name] = Adapter(specialist=name, pool=self.pools[0].name, timeoutSeconds=TIMEOUT_SECONDS)
        return found


def _once(key: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{key}: {name!r} is there twice")


def read_fleet(path: Path) -> Fleet:
    """The fleet of a YAML (or JSON) file. Raises InputProblem, or OSError where it cannot be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputProblem(f"{path}: not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(content, dict):
        raise InputProblem(f"{path}: not a mapping; its keys are pools, adapters, llm")
    try:
        return Fleet.model_validate(content, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "(file)"
        said = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise InputProblem(f"{path}: {where}: {said}") from error


def rates(service: Service) -> list[float]:
    """Tokens a second of ONE call, by the calls in the batch (index 0 is unused): `slots` + 1 numbers."""
    points = sorted(service.decode_tokens_per_second.items())
    return [0.0, *(_total(points, batch) / batch for batch in range(1, service.slots + 1))]


def _total(points: list[tuple[int, float]], batch: int) -> float:
    """Linear between two measured batches; below the first one in proportion, beyond the last one flat.

    >>> _total([(1, 50.0), (9, 210.0)], 5)
    130.0
    """
    first, last = points[0], points[-1]
    if batch <= first[0]:
        return first[1] * batch / first[0]
    for (low, slow), (high, fast) in pairwise(points):
        if batch <= high:
            return slow + (fast - slow) * (batch - low) / (high - low)
    return last[1]


def utilisation_target(pool: PoolFile) -> float:
    """The share of its slots that a server should have in use: what an HPA is told to aim for. In (0, 1]."""
    return min(1.0, pool.pool.target_in_flight / min(pool.service.slots, pool.pool.max_in_flight)) or math.ulp(1.0)
