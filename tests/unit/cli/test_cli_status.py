"""`slmfleet status`: one Specialist as lines."""

from __future__ import annotations

from typing import Any

from slmfleet.cli.status import tree


def lines(**status: Any) -> list[str]:
    found = {"metadata": {"name": "intents"}, "spec": {"taskCluster": "intents"}, "status": status}
    return [text for _, text in tree(found)]


def test_the_trials_of_bases_stand_with_their_figures() -> None:
    told = lines(training={"key": "k", "trials": [
        {"base": "small", "key": "1", "estimate": 0.8, "lower": 0.75, "upper": 0.85, "n": 200},
        {"base": "large", "key": "2", "failure": "failed: job trial-2: out of memory"},
        {"base": "next", "key": "3"}]})  # fmt: skip
    assert told[3:6] == ["trial     small: 0.800 [0.750, 0.850] on 200",
                         "trial     large: failed: job trial-2: out of memory",
                         "trial     next: not measured yet"]  # fmt: skip


def test_what_an_extracted_adapter_keeps_stands_beside_it() -> None:
    told = lines(stable={"name": "abc", "base": "tiny", "keptShare": 0.6239})
    assert "extracted 62.4% of what was trained" in [line.strip() for line in told]


def test_why_a_revision_was_made_stands_beside_it_and_in_the_history() -> None:
    told = lines(stable={"name": "abc", "base": "tiny", "trigger": "Drift: drift of 40 %, from 20"}, history=[
        {"revision": "abc", "outcome": "Promoted", "trigger": "Drift: drift of 40 %, from 20", "reason": "done"},
        {"revision": "old", "outcome": "Promoted", "reason": "done"}])  # fmt: skip
    assert "because   Drift: drift of 40 %, from 20" in told
    assert told[-2].endswith("abc Promoted: done (made because of Drift: drift of 40 %, from 20)")
    assert told[-1].endswith("old Promoted: done")
