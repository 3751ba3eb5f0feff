"""Names: valid everywhere, the same from the same inputs, told apart otherwise."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from plan_builders import NOW

from slmfleet.plan.names import digest, labels, object_name, owner, short

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
label_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
prefixes = st.sampled_from(["", "curate", "gateway", "evaluate"])
suffixes = st.sampled_from(["", "0001", "a3f9c0d1e2"])


@given(prefixes, label_names, suffixes)
def test_every_name_is_a_dns_label(prefix: str, name: str, suffix: str) -> None:
    made = object_name(prefix, name, suffix)
    assert len(made) <= 63
    assert LABEL.fullmatch(made), made


@given(st.lists(label_names, min_size=2, max_size=2, unique=True), prefixes, suffixes)
def test_two_names_stay_two_names(pair: list[str], prefix: str, suffix: str) -> None:
    assert object_name(prefix, pair[0], suffix) != object_name(prefix, pair[1], suffix)


@given(st.text("ab-", max_size=6), st.text("ab-", max_size=6))
def test_long_names_that_begin_alike_are_told_apart(first: str, second: str) -> None:
    one, other = (object_name("train", "x" * 55 + end + "z", "a3f9c0d1e2") for end in (first, second))
    assert (one == other) == (first == second)


def test_a_name_that_fits_is_not_touched() -> None:
    assert object_name("train", "intents", "0f") == "train-intents-0f"
    assert object_name("", "intents", "0f") == "intents-0f"


@given(label_names)
def test_every_label_value_is_valid(name: str) -> None:
    """The server refuses a value over 63 characters, or one that ends in a dash."""
    found = labels("gateway", "Specialist", name[:48].rstrip("-"))
    for value in found.values():
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value), value


def test_an_owner_says_its_kind() -> None:
    assert owner("Router", "one") != owner("Specialist", "one")


def test_digests_are_of_content_and_not_of_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})
    assert short({"a": 1}) == digest({"a": 1})[:10]


def test_digests_are_the_same_on_every_machine() -> None:
    """Written down once: if this changes, an upgraded operator trains everything again."""
    assert digest({"word": "é", "when": NOW.isoformat()}) == (
        "13f93717c245b9c73ad2c4025cc425e9d13b29ec3234fcda996ccf88a90a4660")
