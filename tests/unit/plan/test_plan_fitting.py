"""A route table that is larger than a ConfigMap takes: compressed, and if need be without the largest specialists."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from plan_builders import CONFIG, cluster, conditions, message, revision, router, router_facts, specialist
from test_plan_router import planned

from slmfleet.plan.facts import Plan
from slmfleet.plan.gateway import DIGEST, TABLE_KEY
from slmfleet.plan.table import route_table
from slmfleet.wire.packing import LIMIT_BYTES, fits, packed, unpacked

WORDS = [f"{a}{b}{c}" for a in ("order", "ship", "pay", "bill", "user") for b in ("_", "_of_", "_at_")
         for c in ("id", "name", "date", "total", "status", "place", "code")]  # fmt: skip


def schema(size: int, seed: int, *, random_text: bool = False) -> str:
    """A JSON schema of about `size` characters: an application's, or one that no compression helps."""
    rng, parts, length = random.Random(seed), [], 0
    while length < size - 400:
        told = rng.randbytes(100).hex() if random_text else " ".join(rng.choices(WORDS, k=8))
        kind = rng.choice(["string", "number", "boolean"])
        parts.append(f'"{rng.choice(WORDS)}_{len(parts)}": {{"type": "{kind}", "description": "{told}"}}')
        length += len(parts[-1]) + 2
    return f'{{"type": "object", "properties": {{{", ".join(parts)}}}}}'


def fleet(schemas: dict[str, str]) -> dict[str, Any]:
    """Facts of a Router with a specialist that serves for each schema."""
    return {
        "clusters": {name: cluster(name, outputFormat={"type": "json", "jsonSchema": text})
                     for name, text in schemas.items()},
        "specialists": {name: specialist(name, taskCluster=name, status={"stable": revision()}) for name in schemas}}


def table_in(plan: Plan) -> dict[str, Any]:
    made = next(o for o in plan.apply if o["kind"] == "ConfigMap")
    found: dict[str, Any] = json.loads(unpacked(TABLE_KEY, made.get("data"), made.get("binaryData")) or "")
    return found


def bytes_of(plan: Plan) -> int:
    """As the API server counts them."""
    made = next(o for o in plan.apply if o["kind"] == "ConfigMap")
    text = sum(len(value.encode()) for value in made.get("data", {}).values())
    return text + sum(len(value) * 3 // 4 for value in made.get("binaryData", {}).values())


HUGE = {f"huge-{i:02d}": schema(65_000, i, random_text=True) for i in range(34)}
LARGE = {f"task-{i:03d}": schema(16_000, i) for i in range(100)}


def test_a_hundred_large_schemas_have_room_in_one_config_map() -> None:
    plan = planned(router(), **fleet(LARGE))
    assert sum(map(len, LARGE.values())) > 1_400_000
    assert bytes_of(plan) <= LIMIT_BYTES
    assert [s["name"] for s in table_in(plan)["specialists"]] == sorted(LARGE)
    assert "SpecialistsRouted" not in conditions(plan)
    assert planned(router(), **fleet(LARGE)).apply == plan.apply, "the same bytes whenever it is rendered"


def test_a_table_that_is_small_stays_text_that_people_can_read() -> None:
    made = next(o for o in planned(router(), **fleet({"a": schema(2000, 1)})).apply if o["kind"] == "ConfigMap")
    assert "binaryData" not in made and json.loads(made["data"][TABLE_KEY])["specialists"][0]["name"] == "a"


def test_the_largest_specialists_give_way_to_the_others_and_are_named_with_the_field() -> None:
    schemas = {f"fine-{i}": schema(3000, i) for i in range(5)} | HUGE
    facts = fleet(schemas)
    plan = planned(router(), **facts)
    inside = [s["name"] for s in table_in(plan)["specialists"]]
    outside = sorted(set(schemas) - set(inside))
    assert bytes_of(plan) <= LIMIT_BYTES
    assert {f"fine-{i}" for i in range(5)} <= set(inside)
    assert 0 < len(outside) < len(HUGE)
    assert conditions(plan)["SpecialistsRouted"] == ("False", "TableTooLarge")
    told = message(plan, "SpecialistsRouted")
    assert f"the calls of {len(outside)} Specialists" in told
    for name in outside:
        assert f"{name}: spec.outputFormat.jsonSchema of TaskCluster {name} has 6" in told
    ready = {type: status for type, (status, _) in conditions(plan).items()}
    assert "Stalled" not in ready and ready["Ready"] == "True", "the others' routes go on"


def test_the_table_goes_on_changing_while_some_are_left_out() -> None:
    """A roll-back of one must not wait for room for another."""
    facts = fleet(HUGE)
    facts["specialists"]["small"] = specialist("small", taskCluster="small", status={
        "stable": revision(), "candidate": revision("sha256:" + "0b" * 32),
        "rollout": {"stage": "Canary", "weightPercent": 10}})  # fmt: skip
    facts["clusters"]["small"] = cluster("small")
    first = planned(router(), **facts)
    made = next(o for o in first.apply if o["kind"] == "ConfigMap")
    known = {"version": table_in(first)["version"], "digest": made["metadata"]["annotations"][DIGEST]}
    assert table_in(planned(router(), table=known, **facts))["version"] == known["version"]
    facts["specialists"]["small"] = specialist("small", taskCluster="small", status={"stable": revision()})
    after = table_in(planned(router(), table=known, **facts))
    assert after["version"] == known["version"] + 1
    assert next(s for s in after["specialists"] if s["name"] == "small").get("candidate") is None


def test_labels_may_be_what_is_too_large() -> None:
    rng = random.Random(0)
    labels = [rng.randbytes(60).hex() for _ in range(1024)]
    names = [f"labels-{i:02d}" for i in range(30)]
    facts = fleet(dict.fromkeys(names, "{}"))
    for name in names:
        rng.shuffle(labels)
        facts["clusters"][name] = cluster(name, outputFormat={"type": "label", "labels": list(labels)})
    _, left_out = route_table(CONFIG, router(), router_facts(**facts))
    assert {each.field for each in left_out} == {"outputFormat.labels"}


@pytest.mark.parametrize("text", ["", "{}", "ü" * 600_000, json.dumps(LARGE)])
def test_a_text_comes_back_as_it_was(text: str) -> None:
    made = packed("k", text)
    assert unpacked("k", made.get("data"), made.get("binaryData")) == text
    assert fits(text)


@pytest.mark.parametrize(("data", "binary"), [(None, None), ({}, {}), ({"other": "x"}, {"other.gz": "x"})])
def test_what_is_not_there_is_none(data: dict[str, str] | None, binary: dict[str, str] | None) -> None:
    assert unpacked("k", data, binary) is None


@pytest.mark.parametrize("broken", ["!!", "bm90IGd6aXA=", "H4sIAAAAAAAA"])
def test_what_somebody_else_wrote_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"k\.gz"):
        unpacked("k", None, {"k.gz": broken})


def test_the_signature_of_a_task_goes_with_its_specialist_and_an_unserved_one_first() -> None:
    """Prompts of 20,000 characters that no compression helps: some specialists find room, each with its signature."""
    prompts = {f"told-{i:03d}": random.Random(i).randbytes(9_900).hex() + " {x}" for i in range(120)}
    clusters = {name: cluster(name, by_hand=True, signature={"systemPrompt": text}) for name, text in prompts.items()}
    wishes = {name: specialist(name, taskCluster=name, status={"stable": revision()})
              for name in sorted(prompts)[:110]}  # fmt: skip
    table, left_out = route_table(CONFIG, router(), router_facts(clusters=clusters, specialists=wishes))
    assert fits(table.model_dump_json(exclude_none=True))
    inside = [route.cluster for route in table.specialists]
    assert 0 < len(inside) < 110
    assert [each.cluster for each in table.declared] == inside
    assert {each.field for each in left_out} == {"signature.systemPrompt"}
