"""Redaction: what is found, what replaces it, and the leak test."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.curation.detect import Detector
from slmfleet.curation.personal import find, iban_ok, luhn
from slmfleet.curation.redact import Redactor, Seeker, mapped, strings_in
from slmfleet.curation.redact_file import redact_file

FOUND = [
    ("mail me at anna.berg+x@corp-mail.co.uk please", "email", "anna.berg+x@corp-mail.co.uk"),
    ("card 4111 1111 1111 1111 expires soon", "card", "4111 1111 1111 1111"),
    ("IBAN DE89 3704 0044 0532 0130 00 it is", "iban", "DE89 3704 0044 0532 0130 00"),
    ("call +49 170 1234567 today", "phone", "+49 170 1234567"),
    ("call (415) 555-2671 today", "phone", "(415) 555-2671"),
    ("ssn 123-45-6789.", "us_ssn", "123-45-6789"),
    ("from 203.0.113.77 and on", "ip", "203.0.113.77"),
    ("from 2001:db8:85a3::8a2e:370:7334 on", "ip", "2001:db8:85a3::8a2e:370:7334"),
    ("see https://bob:hunter22@host/x", "url_credentials", "bob:hunter22"),
    ("use postgres://app:s3cret@db.local/x", "connection_string", "postgres://app:s3cret@db.local/x"),
    ("key sk-proj-aB3dE5fG7hJ9kL1mN3pQ5r ok", "api_key", "sk-proj-aB3dE5fG7hJ9kL1mN3pQ5r"),
    ("aws AKIAIOSFODNN7EXAMPLE here", "api_key", "AKIAIOSFODNN7EXAMPLE"),
    ("Authorization: Bearer abcDEF123456ghiJKL789", "token", "abcDEF123456ghiJKL789"),
    ("password: Tr0ub4dor&3", "secret", "Tr0ub4dor&3"),
    ("Hello, my name is Xaver Quandt and", "name", "Xaver Quandt"),
    ("ask Dr. Okonkwo about it", "name", "Okonkwo"),
    ("born on 12/03/1984", "date_of_birth", "12/03/1984"),
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_a_value_is_found_whole(text: str, kind: str, value: str) -> None:
    assert (kind, value) in [(s.kind, s.value) for s in find(text)]


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112 is wrong",
        "meet on 2026-03-02 at 10:30:00",
        "version 1.2.3.4567 of build 20260302",
        "IBAN DE00 3704 0044 0532 0130 00",
        "i forgot my password yesterday",
        "the total is 1,000,000.50 for 12 items",
        "dear customer, this is the Best offer",
        "add clem burke in my playlist",
        "127.0.0.1 is home",
    ],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert [s for s in find(text) if s.kind != "name"] == []


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_a_surrogate_is_of_the_same_kind_and_never_the_value(text: str, kind: str, value: str) -> None:
    redactor = Redactor()
    redactor.learn("c", text)
    clean = redactor.redact("c", text)
    assert value not in clean
    assert clean.startswith(text[: text.index(value)])
    if kind in ("card", "iban", "email", "ip"):
        assert kind in {s.kind for s in find(clean)} or kind == "card"
    assert redactor.leaks(clean) == []


def test_a_copied_value_is_still_copied_and_another_conversation_gets_another() -> None:
    redactor = Redactor()
    for conversation in ("a", "b"):
        redactor.learn(conversation, "I am writing as anna@corp.com, my name is Xaver Quandt")
    prompt, answer = (redactor.redact("a", t) for t in ("from anna@corp.com", '{"from": "anna@corp.com"}'))
    assert prompt.removeprefix("from ") in answer
    assert redactor.redact("b", "from anna@corp.com") != prompt
    assert "Xaver" not in redactor.redact("a", "so Xaver Quandt came")


def test_surrogates_pass_their_own_checksums() -> None:
    redactor = Redactor()
    card = redactor.redact("c", "4111-1111-1111-1111")
    iban = redactor.redact("c", "GB82WEST12345698765432")
    assert luhn(card.replace("-", "")) and card.count("-") == 3 and card.startswith("9")
    assert iban_ok(iban) and iban.startswith("GB")


@given(st.text(max_size=200))
def test_spans_are_in_order_and_do_not_overlap(text: str) -> None:
    spans = find(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(text[s.start : s.end] == s.value for s in spans)


@given(st.lists(st.text("ab1@. ", min_size=1, max_size=6), max_size=5), st.text("ab1@. ", max_size=40))
def test_the_seeker_only_reports_what_is_there(values: list[str], text: str) -> None:
    for span in Seeker((v, "x") for v in values).spans(text):
        assert text[span.start : span.end] in values


@pytest.mark.parametrize(
    "text, kind, value",
    [
        ("张伟的电话是13812345678,请打", "phone", "13812345678"),
        ("我的邮箱zhang@example.cn谢谢", "email", "zhang@example.cn"),
        ("卡号4111111111111111请付款", "card", "4111111111111111"),
        ("身份证号11010519491231002X已登记", "cn_id", "11010519491231002X"),
        ("電話番号は090-1234-5678です", "phone", "090-1234-5678"),
        ("전화번호는 010-1234-5678입니다", "phone", "010-1234-5678"),
        ("โทร0812345678ค่ะ", "phone", "0812345678"),
        ("地址10.20.30.40在这里", "ip", "10.20.30.40"),
        ("写给 张伟@example.cn 吧", "email", "张伟@example.cn"),
        ("password: 密码4711x", "secret", "密码4711x"),
    ],
)
def test_a_value_between_letters_of_a_script_without_spaces_is_found(text: str, kind: str, value: str) -> None:
    assert (kind, value) in [(s.kind, s.value) for s in find(text)]


def test_an_order_number_between_such_letters_is_no_telephone() -> None:
    assert find("订单号12345678901什么时候发货") == []


def test_a_known_value_is_found_between_letters_of_a_script_without_spaces() -> None:
    seeker = Seeker([("张伟", "deny_list"), ("corp-7", "deny_list"), ("伟", "name")])
    assert [s.value for s in seeker.spans("请联系张伟的Corp-7部门")] == ["张伟", "Corp-7"]
    assert seeker.spans("corp-77") == []


def test_a_file_is_redacted_line_by_line_with_a_report(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        "".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, (t, _, _) in enumerate(FOUND)) + "{broken\n",
        "utf-8",
    )
    found = redact_file(source, tmp_path / "out.jsonl", tmp_path / "report.json")
    text = (tmp_path / "out.jsonl").read_text("utf-8")
    assert not [v for _, _, v in FOUND if v in text]
    assert (found.lines, found.leaks, found.set_aside) == (len(FOUND), 0, {"not JSON": 1})
    assert found.replaced["email"] == 1
    redact_file(source, tmp_path / "again.jsonl", tmp_path / "report2.json")
    assert (tmp_path / "again.jsonl").read_text("utf-8") == text


def test_a_usage_record_keeps_its_form(tmp_path: Path) -> None:
    line = {
        "id": "anna@corp.com",
        "time": "2026-03-02T08:00:00Z",
        "request": {"messages": [{"role": "user", "content": "I am anna@corp.com"}], "max_tokens": 12},
        "response": {"choices": [{"message": {"content": '{"mail": "anna@corp.com"}'}}]},
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    redact_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "report.json")
    clean = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))
    answer = json.loads(clean["response"]["choices"][0]["message"]["content"])["mail"]
    assert clean["request"]["messages"][0]["content"] == f"I am {answer}"
    assert clean["request"]["max_tokens"] == 12
    assert answer != "anna@corp.com"


def test_an_id_or_a_conversation_that_holds_a_value_becomes_the_same_hash_everywhere(tmp_path: Path) -> None:
    lines = [
        {"id": "anna@corp.com", "conversation": "k.quandt@corp.com", "text": "hello"},
        {"id": "2", "conversation": "k.quandt@corp.com", "text": "of Xaver Quandt", "escalated_from": "anna@corp.com"},
        {"id": "3", "conversation": "of-quandt", "text": "hello"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    rules = Detector(deny=(("of-quandt", "organisation"),))
    found = redact_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "report.json", detector=rules)
    written = (tmp_path / "out.jsonl").read_text("utf-8")
    first, second, third = map(json.loads, written.splitlines())
    assert "corp" not in written and "quandt" not in written and found.leaks == 0
    assert first["id"] == second["escalated_from"] != first["conversation"] == second["conversation"]
    assert second["id"] == "2" and third["conversation"].startswith("redacted-")


@pytest.mark.parametrize(
    "given", ["r00012", "conv-4711", "2ed145f4-7998-1798-8302-0cf694b19e9f", "conv_68c4ab0b660081919707b95b"]
)
def test_an_id_that_says_nothing_stays(given: str) -> None:
    assert Redactor().identity(given) == given


class Gpt:
    """A model that takes these for places and persons, wherever they stand."""

    _TAKEN = re.compile(
        r"Berlin|gpt-4o-mini|call_\w+|agent_a|kwh|name_of|medium|Marlene|json_schema|minimax", re.IGNORECASE
    )

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        return [[(*m.span(), "place") for m in self._TAKEN.finditer(text)] for text in texts]


CHAT = {
    "model": "gpt-4o-mini",
    "reasoning": {"effort": "medium"},
    "provider": "minimax",
    "tools": [{"type": "function", "function": {"name": "to_agent_a", "description": "in kwh, of Berlin"}}],
    "response_format": {"type": "json_schema", "json_schema": {"schema": {"required": ["name_of"]}}},
}
ASKED = [
    {"role": "user", "content": [{"type": "text", "text": "I am Marlene of Berlin"}]},
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_Ab1", "function": {"name": "to_agent_a", "arguments": '{"a": "Berlin"}'}}],
    },
    {"role": "tool", "tool_call_id": "call_Ab1", "content": "Berlin, 5 kwh"},
]
ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "I am Marlene of Berlin"}]},
    {"type": "function_call", "call_id": "call_Ab1", "name": "to_agent_a", "arguments": '{"a": "Berlin"}'},
    {"type": "function_call_output", "call_id": "call_Ab1", "output": "Berlin, 5 kwh"},
]
BLOCKS = [
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "call_Ab1", "name": "to_agent_a", "input": {"a": "Berlin"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_Ab1", "content": "Marlene of Berlin"}]},
]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (
            {"messages": ASKED},
            {"created": 1763640368, "choices": [{"message": {"content": "Berlin"}, "finish_reason": "stop"}]},
        ),
        ({"input": ITEMS, "instructions": "for Marlene"}, {"created_at": 1763640368, "output": ITEMS}),
        ({"messages": BLOCKS, "system": "for Marlene"}, {"content": BLOCKS[0]["content"]}),
        ({"prompt": "Marlene of Berlin"}, {"choices": [{"text": "Berlin"}]}),
    ],
)
def test_of_a_call_the_model_reads_what_was_written_alone(
    asked: dict[str, Any], answered: dict[str, Any], tmp_path: Path
) -> None:
    answered = {"id": "chatcmpl-4155550134", "model": "gpt-4o-mini", **answered}
    line = {"id": "1", "time": "2026-03-02T08:00:00Z", "request": CHAT | asked, "response": answered}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    found = redact_file(
        tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "report.json", detector=Detector(Gpt())
    )
    clean = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))
    assert {k: clean["request"][k] for k in CHAT} == CHAT and found.leaks == 0
    for key in ("id", "model", "created", "created_at"):
        assert clean["response"].get(key) == answered.get(key)
    said = json.dumps([clean["request"][k] for k in asked] + [v for k, v in clean["response"].items() if k != "id"])
    assert "Berlin" not in said and "Marlene" not in said
    assert said.count("call_Ab1") == json.dumps([asked, answered]).count("call_Ab1")
    assert said.count("to_agent_a") == json.dumps([asked, answered]).count("to_agent_a")


def test_the_form_of_a_call_is_searched_for_what_its_own_form_vouches_for(tmp_path: Path) -> None:
    metadata = {"by": "anna@corp.com", "card": 4111111111111111, "ours": "Quandt & Co", "n": 5}
    line = {"id": "1", "time": "2026-03-02T08:00:00Z", "request": {"prompt": "hello", "metadata": metadata}}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    rules = Detector(deny=(("Quandt", "organisation"),))
    redact_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "report.json", detector=rules)
    clean = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))["request"]
    assert not [v for v in ("corp.com", "4111111111111111", "Quandt") if v in json.dumps(clean)]
    assert clean["prompt"] == "hello" and clean["metadata"]["n"] == 5


HOSTILE = ["postgres://a:", "a", "Xa-", "a@", "://", "1 ", "1-", "eyJaaaaaaaa.", "key=", "1:", "Ab ", "(1"]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_prompt_made_to_keep_the_patterns_busy_is_searched_to_its_end(unit: str) -> None:
    text = "me@corp.com " + unit * (30_000 // len(unit)) + " you@corp.com"
    assert [s.value for s in find(text) if s.kind == "email"][-1].endswith("you@corp.com")


def test_a_text_of_thousands_of_values_loses_none() -> None:
    text = "\n".join(f"user{i}@corp{i}.com" for i in range(3_000))
    assert len(find(text)) == 3_000


def test_numbers_that_begin_alike_are_looked_up_by_more_than_their_first_word() -> None:
    seeker = Seeker((f"+1 {200 + i // 1000} {i:04d}", "phone") for i in range(5_000))
    assert max(map(len, seeker._by_head.values())) == 1
    assert [s.value for s in seeker.spans("call +1 203 3007, or +1 203 9999")] == ["+1 203 3007"]


@pytest.mark.parametrize("frame", ["%s", "Result: %s", " %s", '{"again": %s}'])
def test_a_name_in_escaped_json_is_replaced_as_the_same_name_elsewhere(frame: str) -> None:
    redactor = Redactor()
    texts = ["my name is Jürgen Núñez", frame % json.dumps({"name": "Jürgen Núñez", "at": "caf\u00e9 😀"})]
    for text in texts:
        redactor.learn("c", text)
    name, answer = (redactor.redact("c", text) for text in texts)
    assert f'"name": "{name.removeprefix("my name is ")}"' in answer
    assert "n\\u00fa" not in answer.lower() and '"at": "caf\\u00e9 \\ud83d\\ude00"' in answer
    assert redactor.leaks(texts[1]) == ["name"] and redactor.leaks(answer) == []


def test_an_escaped_name_that_nothing_else_names_is_found() -> None:
    redactor = Redactor()
    text = json.dumps({"note": "Herr Jürgen Müller called", "inner": json.dumps({"who": "Frau Émilie Lefèvre"})})
    redactor.learn("c", text)
    made = json.loads(redactor.redact("c", text))
    left = made["note"] + json.loads(made["inner"])["who"]
    assert not [word for word in ("Jürgen", "Müller", "Émilie", "Lefèvre") if word in left]


def test_a_key_that_is_a_value_is_replaced_and_other_keys_stay() -> None:
    redactor = Redactor()
    arguments = {"anna@corp.com": {"role": "admin"}, "phone_number": "x", "Paris": 1}
    for text in strings_in(arguments):
        redactor.learn("c", text)
    made = mapped(arguments, lambda text: redactor.redact("c", text))
    key, *others = made
    assert others == ["phone_number", "Paris"] and "corp" not in key
    assert redactor.redact("c", "I am anna@corp.com") == f"I am {key}"
    assert redactor.leaks(next(strings_in(arguments))) == ["email"]


@pytest.mark.parametrize("between", [" ", "\n", "\u00a0", "\t"])
def test_the_leak_test_finds_a_name_in_any_case_and_across_a_line(between: str) -> None:
    redactor = Redactor()
    redactor.learn("c", "my name is Xaver Quandtmann")
    assert redactor.leaks(f"XAVER{between}quandtmann") == ["name"]


def test_what_a_line_holds_beside_a_records_own_fields_is_redacted_too(tmp_path: Path) -> None:
    line = {"id": "7", "text": "hello", "tier": "llm"}
    line |= {"note": "ask anna@corp.com", "meta": {"from": ["+49 170 1234567"]}}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    found = redact_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "report.json")
    text = (tmp_path / "out.jsonl").read_text("utf-8")
    assert "corp" not in text and "1234567" not in text and found.leaks == 0
    clean = json.loads(text)
    assert (clean["id"], clean["text"], clean["tier"]) == ("7", "hello", "llm")


def test_half_an_emoji_in_one_argument_does_not_end_the_run() -> None:
    """A model whose answer is cut in the middle of one writes such; its JSON is valid, its text is no UTF-8."""
    redactor = Redactor()
    text = "sent \ud83d by anna@corp.com"
    redactor.learn("c", text)
    assert redactor.redact("c", text).startswith("sent \ud83d by ")
    assert "corp" not in redactor.redact("c", json.dumps({"text": text}))


OVERLAPPING = ["wibra di", "di hajemo", "hajemo la kuxe", "la kuxe", "kuxe van zobre"]


@given(st.lists(st.sampled_from(" ".join(OVERLAPPING).split()), min_size=1, max_size=12))
def test_values_that_overlap_leave_nothing_of_each_other(words: list[str]) -> None:
    """What is no part of a name ("di") stays in what replaces one, and may begin another with the word after it."""
    redactor, text = Redactor(detector=Detector(deny=tuple((v, "deny_list") for v in OVERLAPPING))), " ".join(words)
    for value in OVERLAPPING:
        redactor.learn("c", value)
    assert redactor.leaks(redactor.redact("c", text)) == []


def test_an_address_with_a_denied_name_in_it_goes_as_a_whole() -> None:
    redactor = Redactor(detector=Detector(deny=(("annelore", "deny_list"),)))
    text = "annelore writes from annelore.mazzantini701@brandmail.de"
    redactor.learn("c", text)
    made = redactor.redact("c", text)
    assert not {"annelore", "mazzantini701", "brandmail"} & set(re.split(r"[\s.@]", made)) and "@example." in made
    assert redactor.leaks(made) == []
