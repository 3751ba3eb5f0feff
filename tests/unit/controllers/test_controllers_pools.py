"""What the loop of a BaseModel remembers, and which of a server's failures is a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from slmfleet.controllers import basemodel
from slmfleet.controllers.context import PoolMemory, Trouble
from slmfleet.controllers.triton import NoAnswer, Triton, TritonError, _problem
from slmfleet.plan.config import Config
from slmfleet.plan.pool import Adapter, Move

REFUSED = Trouble("RankTooHigh: 64", silent=False)
ONE = Move("10.0.0.1", "load", Adapter("one-abc", "artifacts/one", "sha256:" + "0a" * 32))


class Parts:
    """What a move needs of a Context."""

    config = Config.model_construct(store_mount="/store")
    control_key = "key"


@pytest.mark.parametrize("raised, trouble", [
    (TritonError("RankTooHigh: 64"), Trouble("adapter one-abc on 10.0.0.1: RankTooHigh: 64", silent=False)),
    (NoAnswer("NoAnswer: x"), Trouble("adapter one-abc on 10.0.0.1: NoAnswer: x", silent=True)),
    (None, None)])
async def test_a_failed_move_is_remembered_until_it_works(
    monkeypatch: pytest.MonkeyPatch, raised: TritonError | None, trouble: Trouble | None
) -> None:
    async def load(self: Triton, adapter: Adapter, root: str) -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(Triton, "load", load)
    memory = PoolMemory(troubles={("10.0.0.1", "one-abc"): REFUSED})
    parts: Any = Parts()
    assert await basemodel._move(parts, memory, (ONE,)) == (raised is None)
    assert memory.trouble("10.0.0.1") == trouble


@pytest.mark.parametrize("address, url", [("10.0.0.9", "10.0.0.9:8001"), ("fd00::9", "[fd00::9]:8001")])
def test_a_server_is_spoken_to_at_its_address_of_either_family(address: str, url: str) -> None:
    assert Triton(address, "key")._url == url


async def test_what_is_no_longer_wanted_is_forgotten() -> None:
    memory = PoolMemory(troubles={("10.0.0.1", "one-abc"): REFUSED})
    parts: Any = Parts()
    assert not await basemodel._move(parts, memory, ())
    assert memory.trouble("10.0.0.1") is None


def test_looks_are_counted_by_pod_and_forgotten_with_it() -> None:
    memory = PoolMemory()
    assert [memory.look("a"), memory.look("a"), memory.look("b")] == [0, 1, 0]
    memory.keep(pods={"b"})
    assert [memory.look("a"), memory.look("b")] == [0, 1]


@pytest.mark.parametrize("status, kind", [
    ("StatusCode.UNAVAILABLE", NoAnswer), ("StatusCode.CANCELLED", NoAnswer), (None, TritonError)])
def test_only_a_missing_answer_is_no_answer(status: str | None, kind: type[TritonError]) -> None:
    assert type(_problem("10.0.0.1:8001", InferenceServerException("RankTooHigh: 64", status=status))) is kind


async def test_a_port_that_nobody_listens_on_does_not_answer(unused_tcp_port: int, monkeypatch: Any) -> None:
    """Against a real gRPC client."""
    monkeypatch.setattr("slmfleet.controllers.triton.GRPC", unused_tcp_port)
    with pytest.raises(NoAnswer):
        await asyncio.wait_for(Triton("127.0.0.1", "key", timeout_seconds=2).adapters(), 20)
