"""What the application itself says is not taken for a person's, a company's or a place's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from curation_samples import log_of, record

from slmfleet.curation import curate as stage
from slmfleet.curation import vocabulary
from slmfleet.curation.copies import broken, stands
from slmfleet.curation.detect import Detector
from slmfleet.curation.redact import Redactor
from slmfleet.wire.discovery import ClustersFile, FoundCluster, Signature
from slmfleet.wire.routes import OutputFormat


class Words:
    """A model that finds these words wherever they stand, alone or within others."""

    def __init__(self, **kinds: str) -> None:
        self._kinds = kinds

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        return [
            [
                (at, at + len(word), kind)
                for word, kind in self._kinds.items()
                for at in range(len(text))
                if text.lower().startswith(word, at)
            ]
            for text in texts
        ]


LABELS = ["visa_or_mastercard", "apple_pay_or_google_pay", "top_up_by_card_charge"]
MODEL = Words(visa="organisation", mastercard="organisation", apple_pay="organisation", brandstett="name")


def curated(answer: str, expected: OutputFormat, detector: Detector) -> stage.Dataset:
    asked = "does Brandstett get a Visa number {} or the other one"
    rows = [record(i, [{"role": "user", "content": asked.format(chr(97 + i))}], answer) for i in range(20)]
    cluster = FoundCluster(
        name="ask", version="sha256:1", description="d", size=20, share=1, signature=Signature(), output_format=expected
    )
    file = ClustersFile(records=20, records_digest="sha256:0", clusters=[cluster])
    settings = stage.Settings("ask", min_examples=1, quiet_seconds=0)
    clusters = stage.Clusters(file, {r["id"]: "ask" for r in rows}, None)
    return stage.curate(log_of(rows), clusters, settings, detector=detector)


@pytest.mark.parametrize("label", LABELS)
def test_a_label_stays_whatever_a_model_takes_for_a_company_in_it(label: str) -> None:
    for answer, expected in [
        (label, OutputFormat(type="label", labels=LABELS)),
        (
            json.dumps({"intent": label}),
            OutputFormat(type="json", json_schema={"type": "object", "properties": {"intent": {"enum": LABELS}}}),
        ),
    ]:
        done = curated(answer, expected, Detector(MODEL))
        rows = [*done.train, *done.heldout]
        assert {r["messages"][-1]["content"] for r in rows} == {answer}
        assert not [r for r in rows if "Visa" in r["messages"][0]["content"] or "Brand" in r["messages"][0]["content"]]


def test_the_deny_list_and_what_a_form_vouches_for_go_even_within_a_label() -> None:
    label = "visa for anna@corp.com"
    redactor = Redactor(detector=Detector(MODEL, (("visa", "organisation"),), keep=frozenset({label})))
    redactor.learn("c", label)
    made = redactor.redact("c", label)
    assert "visa" not in made and "corp" not in made and redactor.leaks(made) == []


def test_a_value_of_the_log_is_no_leak_within_a_label_and_one_elsewhere() -> None:
    redactor = Redactor(detector=Detector(Words(mastercard="organisation"), keep=frozenset(LABELS)))
    redactor.learn("c", "pay by Mastercard")
    assert redactor.redact("d", LABELS[0]) == LABELS[0] and redactor.leaks(LABELS[0]) == []
    assert redactor.leaks("the Mastercard") == ["organisation"]


def test_a_schema_says_the_names_of_its_properties_and_the_values_it_fixes() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "description": "of Alderton",
        "properties": {"Unit": {"enum": ["celsius", 5]}, "days": {"items": {"const": "1mo"}, "default": "1d"}},
        "required": ["Unit"],
    }
    cluster = FoundCluster(
        name="ask", version="v", description="d", size=1, share=1, signature=Signature(tools=["Weather"]),
        output_format=OutputFormat(type="json", json_schema=schema),
    )  # fmt: skip
    assert vocabulary.of_task(cluster) == {"unit", "days", "celsius", "5", "1mo", "1d", "weather"}


SYSTEM = "Sort the messages to Alderlay Bank in Berlin. I am Kreuzner, mail desk@alder.example; never Fabrikam"
ALDERLAY = Words(alderlay="organisation", berlin="place", kreuzner="name", fabrikam="organisation", lundqvist="name")


def with_system(calls: int, *, others: int = 0) -> list[dict[str, Any]]:
    """The rows of so many calls under one system prompt, and of others without it."""
    said = "ask Kreuzner of Alderlay Bank in Berlin, or Lundqvist, about {}, at desk@alder.example or Fabrikam"
    rows = []
    for i in range(calls + others):
        system = SYSTEM if i < calls else "Sort the messages."
        asked = [
            {"role": "system", "content": system},
            {"role": "user", "content": said.format(f"{chr(97 + i % 26)}{i}")},
        ]
        rows.append(record(i, asked, "Kreuzner", conversation=f"c{i}"))
    cluster = FoundCluster(
        name="ask", version="v", description="d", size=len(rows), share=1, signature=Signature(),
        output_format=OutputFormat(type="text"),
    )  # fmt: skip
    file = ClustersFile(records=len(rows), records_digest="sha256:0", clusters=[cluster])
    settings = stage.Settings("ask", min_examples=1, quiet_seconds=0)
    clusters = stage.Clusters(file, {r["id"]: "ask" for r in rows}, None)
    detector = Detector(ALDERLAY, (("Fabrikam", "organisation"),))
    done = stage.curate(log_of(rows), clusters, settings, detector=detector)
    assert done.leaks == 0
    return [*done.train, *done.heldout]


def test_what_every_system_prompt_says_is_the_same_in_all_conversations() -> None:
    rows = with_system(24, others=1)
    systems = {r["messages"][0]["content"] for r in rows[:20]}
    assert len(systems) == 1
    (system,) = systems
    assert system.startswith("Sort the messages to Alderlay Bank in Berlin. I am ")
    assert not [v for v in ("Kreuzner", "desk@alder.example", "Fabrikam") if any(v in json.dumps(r) for r in rows)]
    name = system.split("I am ")[1].split(",")[0]
    asked = [r["messages"][-2]["content"] for r in rows]
    assert all(text.startswith(f"ask {name} of Alderlay Bank in Berlin, or ") for text in asked)
    assert {r["messages"][-1]["content"] for r in rows} == {name}
    customers = {text.split(", or ")[1].split(",")[0] for text in asked}
    assert len(customers) > 5 and name not in customers and "Lundqvist" not in customers


@pytest.mark.parametrize(("calls", "others"), [(10, 0), (20, 5)])
def test_what_few_calls_or_only_some_say_is_replaced_in_each_conversation(calls: int, others: int) -> None:
    rows = with_system(calls, others=others)
    assert len({r["messages"][0]["content"] for r in rows if "I am" in r["messages"][0]["content"]}) > 5
    assert "Alderlay" not in json.dumps(rows)


TOOL = {
    "name": "get_weather",
    "description": "Handoff to the weather of San Francisco, ask ops@corp.com",
    "parameters": {
        "type": "object",
        "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}, "period": {"enum": ["1d", "1mo"]}, "town": {}},
        "required": [],
    },
}
TOWNS = Words(
    fahrenheit="place", handoff="name", francisco="place", berlin="place", **{"1mo": "address", "add 5": "place"}
)


def with_tools(asked: list[str], arguments: list[dict[str, Any]]) -> stage.Dataset:
    """The dataset of calls of one tool: one of each text and arguments."""
    rows = [record(i, [{"role": "user", "content": text}], "") for i, text in enumerate(asked)]
    for row, given in zip(rows, arguments, strict=True):
        row["request"]["tools"] = [{"type": "function", "function": TOOL}]
        called = {"id": "call_Berlin", "function": {"name": TOOL["name"], "arguments": json.dumps(given)}}
        row["response"]["choices"] = [{"message": {"role": "assistant", "content": None, "tool_calls": [called]}}]
    cluster = FoundCluster(
        name="ask", version="v", description="d", size=len(rows), share=1, signature=Signature(tools=["get_weather"]),
        output_format=OutputFormat(type="tool"),
    )  # fmt: skip
    file = ClustersFile(records=len(rows), records_digest="sha256:0", clusters=[cluster])
    settings = stage.Settings("ask", min_examples=1, quiet_seconds=0)
    clusters = stage.Clusters(file, {r["id"]: "ask" for r in rows}, None)
    return stage.curate(log_of(rows), clusters, settings, detector=Detector(TOWNS))


def test_an_offered_tool_stays_but_for_what_a_form_vouches_for_and_copies_of_its_values_stay_copies() -> None:
    asked = [f"{w} in Berlin in fahrenheit for 1mo" for w in ("weather", "wind", "rain", "snow", "fog")]
    done = with_tools(asked, [{"unit": "fahrenheit", "period": "1mo", "town": "Berlin"}] * len(asked))
    rows = [*done.train, *done.heldout]
    assert len(rows) == len(asked)
    for row in rows:
        (tool,) = row["tools"]
        assert "ops@corp.com" not in tool["function"]["description"]
        assert tool["function"] | {"description": TOOL["description"]} == TOOL
        given = row["messages"][-1]["tool_calls"][0]["function"]["arguments"]
        assert (given["unit"], given["period"]) == ("fahrenheit", "1mo") and given["town"] != "Berlin"
        assert row["messages"][0]["content"].split(" in ", 1)[1] == f"{given['town']} in fahrenheit for 1mo"


def test_a_short_number_that_was_taken_for_a_part_of_a_place_stays_where_the_answer_copies_it() -> None:
    done = with_tools(["Add 5 and 7"], [{"a": 5, "b": "7"}])
    (row,) = [*done.train, *done.heldout]
    assert row["messages"][0]["content"].endswith(" 5 and 7")
    assert row["messages"][-1]["tool_calls"][0]["function"]["arguments"] == {"a": 5, "b": "7"}


def test_a_row_whose_copy_cannot_be_kept_is_left_out_and_counted_as_that() -> None:
    asked = [f"write to anna.{w}@corp.com" for w in ("brandt", "keller", "vogler")] + ["who is otto keller"]
    done = with_tools(asked, [{"who": f"anna.{w}"} for w in ("brandt", "keller", "vogler")] + [{"who": "otto keller"}])
    assert (len(done.train) + len(done.heldout), done.leaks) == (1, 0)
    assert done.funnel[-1].dropped == {"a copied value that redaction would change": 3}


def test_a_copy_is_of_whole_words() -> None:
    assert (
        stands("1mo", "for 1mo.")
        and not stands("1mo", "for 11mo")
        and stands("伟", "请张伟的")
        and not stands("-", "-")
    )
    before = [{"role": "user", "content": "Ann and Jo"}, {"role": "assistant", "content": '{"a": "Ann", "b": "Jo"}'}]
    after = [{"role": "user", "content": "Kai and Ed"}, {"role": "assistant", "content": '{"a": "Kai", "b": "Jo"}'}]
    assert broken(before, after) == [("Jo", True)] and broken(before, before) == []
