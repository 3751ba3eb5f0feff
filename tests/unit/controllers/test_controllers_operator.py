"""The operator's start, and its end where the lease cannot be kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from slmfleet.controllers import operator
from slmfleet.kube.client import ApiError, Conflict, Object


class Server:
    """Applies BaseModels, but for those it refuses."""

    def __init__(self, **refused: ApiError) -> None:
        self.refused = refused
        self.applied: list[str] = []

    async def apply(self, obj: Object, manager: str, force: bool) -> Object:
        name = obj["metadata"]["name"]
        if name in self.refused:
            raise self.refused[name]
        self.applied.append(name)
        return obj


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("one", "two", "three")
    (tmp_path / "catalogue.yaml").write_text("---\n".join(f"metadata: {{name: {name}}}\n" for name in names))
    monkeypatch.setattr(operator, "CATALOGUE", tmp_path / "catalogue.yaml")


@pytest.mark.parametrize("error", [Conflict(409, "changed by hand"), ApiError(422, "source is immutable")])
async def test_a_model_of_the_catalogue_that_is_refused_keeps_none_of_the_others(
    catalogue: None, error: ApiError
) -> None:
    """A release that names another source for a model would else end the operator at every start."""
    server = Server(two=error)
    await operator.apply_catalogue(server)  # type: ignore[arg-type]
    assert server.applied == ["one", "three"]


async def test_a_server_that_does_not_answer_ends_the_start(catalogue: None) -> None:
    with pytest.raises(ApiError):
        await operator.apply_catalogue(Server(two=ApiError(0, "no answer")))  # type: ignore[arg-type]


class Broken:
    async def keep(self) -> None:
        raise ValueError("a lease without a time")


async def test_an_operator_that_cannot_renew_its_lease_stops() -> None:
    stop = asyncio.Event()
    with pytest.raises(ValueError, match="without a time"):
        await operator._keep(Broken(), stop)  # type: ignore[arg-type]
    assert stop.is_set()
