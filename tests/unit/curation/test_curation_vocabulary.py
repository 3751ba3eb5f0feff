"""What the application itself says is not taken for a person's, a company's or a place's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from curation_samples import log_of, record

from slmfleet.curation import curate as stage
from slmfleet.curation import vocabulary
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
