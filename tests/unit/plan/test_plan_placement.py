"""Adapters on servers: within the slots, by demand, and with few moves."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.plan import placement as module
from slmfleet.plan.placement import RecentCalls, placement

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
names = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=12)


@given(names, names, st.integers(1, 12))
def test_no_server_holds_more_than_its_slots_or_anything_twice(
    adapters: list[str], servers: list[str], slots: int
) -> None:
    for held in placement(adapters, servers, slots).values():
        assert len(held) == len(set(held)) <= slots
        assert set(held) <= set(adapters)


@given(names, names, st.integers(1, 12))
def test_every_adapter_is_somewhere_when_the_slots_suffice(
    adapters: list[str], servers: list[str], slots: int
) -> None:
    places = placement(adapters, servers, slots)
    assert set(places) == set(servers)
    if servers and slots * len(servers) >= len(adapters):
        assert set().union(*places.values()) == set(adapters)


@given(names, names, st.integers(1, 12), st.randoms(use_true_random=False))
def test_placement_does_not_depend_on_the_order_of_what_was_seen(
    adapters: list[str], servers: list[str], slots: int, rng: Any
) -> None:
    before = placement(adapters, servers, slots)
    rng.shuffle(adapters)
    rng.shuffle(servers)
    assert placement(adapters, servers, slots) == before


def test_adapters_that_fit_are_on_every_server() -> None:
    assert placement(["b", "a"], ["q", "p"], 2) == {"p": ("a", "b"), "q": ("a", "b")}


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(module).failed == 0


calls_of = st.dictionaries(st.sampled_from("abcdefghij"), st.floats(0, 100), max_size=10)
held_by = st.dictionaries(st.sampled_from("pqrs"), st.sets(st.sampled_from("abcdefghijxy"), max_size=5))


@given(calls_of, held_by, st.integers(1, 4), st.integers(1, 4))
def test_what_is_held_and_what_is_called_break_no_rule(
    calls: dict[str, float], held: dict[str, set[str]], servers: int, slots: int
) -> None:
    names, pods = list("abcdefghij"), list("pqrs"[:servers])
    places = placement(names, pods, slots, held=held, calls=calls)
    assert sorted(places) == pods
    for here in places.values():
        assert len(set(here)) == len(here) == slots  # no slot stays empty while an adapter has no place
        assert set(here) <= set(names)


@given(calls_of, held_by, st.integers(1, 4), st.integers(1, 4))
def test_a_placement_that_was_carried_out_is_left_alone(
    calls: dict[str, float], held: dict[str, set[str]], servers: int, slots: int
) -> None:
    """Or adapters would move for ever."""
    names, pods = list("abcdefghij"), list("pqrs"[:servers])
    places = placement(names, pods, slots, held=held, calls=calls)
    for _ in range(12):
        before, places = places, placement(names, pods, slots, held=places, calls=calls)
        if before == places:
            return
    raise AssertionError("it never settles")


def test_the_most_called_adapters_get_the_slots() -> None:
    calls = {f"a{n}": float(n) for n in range(10)}
    places = placement(list(calls), ["p", "q"], 2, calls=calls)
    assert set().union(*places.values()) == {"a6", "a7", "a8", "a9"}


def test_a_hot_adapter_is_on_more_servers_than_others() -> None:
    calls = {name: 60.0 if name == "hot" else 1.0 for name in ("hot", *"abcdefghijklmnop")}
    places = placement(list(calls), ["p", "q", "r", "s"], 5, calls=calls)
    copies = {name: sum(name in here for here in places.values()) for name in calls}
    assert copies["hot"] == 4
    assert min(copies.values()) == 1


def test_a_newcomer_must_be_called_twice_as_often_as_what_it_drives_out() -> None:
    held = {"p": ("a", "b")}
    assert placement(["a", "b", "c"], ["p"], 2, held=held, calls={"a": 9, "b": 4, "c": 7}) == {"p": ("a", "b")}
    assert placement(["a", "b", "c"], ["p"], 2, held=held, calls={"a": 9, "b": 4, "c": 9}) == {"p": ("a", "c")}


@pytest.mark.parametrize("name", ["aaa", "mmm", "zzz"])
def test_a_server_that_joins_moves_nothing_between_the_others(name: str) -> None:
    """Pods are named by chance: one that sorts before the others must not shift them all."""
    names, calls = [f"a{n:02d}" for n in range(24)], {f"a{n:02d}": 30.0 / (n + 1) for n in range(24)}
    before = placement(names, ["lll", "nnn"], 8, calls=calls)
    after = placement(names, ["lll", "nnn", name], 8, held=before, calls=calls)
    moved = sum(len(set(after[pod]) - set(before[pod])) for pod in before)
    assert moved == 0
    assert len(after[name]) == 8


def test_recent_calls_halve_and_are_forgotten() -> None:
    recent = RecentCalls()
    recent.add("a", 8, NOW)
    recent.add("b", 1, NOW + timedelta(seconds=240))
    assert recent.seen(NOW + timedelta(seconds=240)) == pytest.approx({"a": 2.0, "b": 1.0})
    assert recent.seen(NOW + timedelta(hours=1)) == {}
