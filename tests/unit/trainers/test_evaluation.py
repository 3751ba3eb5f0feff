"""The parts of `evaluate` that need no model: what is read, what is counted, what the result says."""

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest

from slmtrain import evaluate, judge, memorised, metrics
from slmtrain.answering import Run, batches_of
from slmtrain.errors import Refused
from slmtrain.facts import Gate, Memory, Reports
from slmtrain.heldout import read_questions, read_reports, read_secrets, unseen
from slmtrain.judge import Answered
from slmtrain.metrics.reference import Call

GOLDEN = Path(__file__).parents[2] / "golden" / "evaluation"


def question(tmp_path, *rows):
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_questions(tmp_path / "heldout.jsonl")


def row(answer="A", asked="what is it", conversation="c", **more):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"id": f"{conversation}-{asked}", "conversation": conversation, "messages": messages, **more}


# --- golden ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("case", ["intents", "fields", "tools"])
def test_the_result_is_the_golden_one(case):
    folder = GOLDEN / case
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]
    asked = evaluate.gate_of(evaluate.parse_arguments(["--dataset", "d", "--model", "m", "--out", "o"]))
    everything, trained = (read_questions(folder / f"{side}.jsonl") for side in ("heldout", "train"))
    questions = unseen(everything, trained)
    by_id = {a["id"]: a["text"] for a in answers}
    answered = [Answered(q, by_id[q.example.id]) for q in questions]
    run = Run(tuple(a.text for a in answered), 1000.0, {"p50": 0.01, "p95": 0.02}, 512.0, "the golden file's machine")
    memory = evaluate.memory_of(answered, trained, read_secrets(folder), [])
    recorded, reports = [*everything, *trained], read_reports(folder)
    facts = evaluate.facts_of(["auto"], answered, recorded, reports, memory, run, asked)
    text = json.dumps(evaluate.result_of(["auto"], answered, facts, asked), ensure_ascii=False, indent=1) + "\n"
    file = folder / "evaluation.json"
    if os.environ.get("SLMFLEET_GOLDEN") == "write":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), "run again with SLMFLEET_GOLDEN=write and read the difference"


def test_every_key_of_the_result_is_documented():
    page = (GOLDEN.parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    result = json.loads((GOLDEN / "intents" / "evaluation.json").read_text("utf-8"))
    beside = ("left_out_seen_in_training", "latency_seconds", "memory_mib", "measured_on", "tokens_per_second",
              "seconds", "digests")  # fmt: skip
    assert [key for key in (*result, *beside) if f"`{key}`" not in page] == []
    checks = {check["name"] for check in result["checks"]}
    assert [name for name in checks if f"`{name}`" not in page] == []


# --- what is read ------------------------------------------------------------------------------------------------

def test_a_recorded_tool_call_is_read_with_its_tools(tmp_path):
    told = row("", tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    told["messages"][-1] |= {"content": None, "tool_calls": [call]}
    (found,) = question(tmp_path, told)
    assert found.example.answer == '{"name": "f", "arguments": {"a": 1}}'
    assert found.example.tools == tuple(told["tools"])
    assert metrics.SCORES["tool_call"](found.example.answer, found.reference) == 1
    assert found.reference.calls == (Call("f", {"a": 1}),)
    assert found.reference.parameters == {"f": {"type": "object"}}


@pytest.mark.parametrize(
    "broken", [{"tools": {"f": 1}}, {"tools": ["f"]}, {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]
)
def test_broken_tools_are_refused_by_name(tmp_path, broken):
    told = row(tools=broken.get("tools"))
    told["messages"][-1] |= {"tool_calls": broken.get("tool_calls")}
    with pytest.raises(Refused, match=f"`{next(iter(broken))}`.* must"):
        question(tmp_path, told)


@pytest.mark.parametrize("more", [{"accepted": "B"}, {"accepted": [1]}, {"possible": [1]}, {"possible": [{"f": 1}]}])
def test_wrong_alternatives_are_refused_by_name(tmp_path, more):
    with pytest.raises(Refused, match=f"`{next(iter(more))}` must"):
        question(tmp_path, row(**more))


@pytest.mark.parametrize(
    ("given", "language"),
    [({"language": "de"}, "de"), ({"asked": "Hello"}, "latin"), ({"asked": "你好"}, "cjk"), ({"asked": "12 3"}, "none"),
     ({"asked": "Привет"}, "cyrillic")],
)  # fmt: skip
def test_the_language_is_the_rows_own_or_the_script_of_the_question(tmp_path, given, language):
    (found,) = question(tmp_path, row(**given))
    assert found.language == language


def test_a_prompt_that_training_saw_is_left_out(tmp_path):
    old, new = question(tmp_path, row(asked="old"), row(asked="new"))
    assert unseen([old, new], [old]) == [new]


@pytest.mark.parametrize(
    ("files", "reports"),
    [
        ({}, Reports()),
        ({"report.json": "broken", "card.md": "# Card\n"}, Reports(card=True)),
        ({"report.json": '{"redacted": {"name": 2, "phone": 1}, "leaks": 0}'}, Reports(redacted=3, leaks=0)),
        ({"report.json": '{"llm_agreement": 1, "llm_agreement_pairs": 4}'}, Reports(agreement=1, agreement_pairs=4)),
        ({"report.json": '{"llm_agreement": null, "llm_agreement_pairs": 3}'}, Reports()),
        ({"card.md": "# Card\n\n## Licence\nAsk the\nowner.\n\n## More\nx\n"},
         Reports(True, "Ask the owner.", "Ask the")),
        ({"card.md": "## License\n\nMIT"}, Reports(True, "MIT", "MIT")),
        ({"card.md": "## Licence\n\n`MIT`.\n\nIt is free."}, Reports(True, "`MIT`. It is free.", "MIT")),
        ({"card.md": "---\ntags: [x]\nlicense: cc-by-4.0\n---\n# Card\n"}, Reports(True, "cc-by-4.0", "cc-by-4.0")),
        ({"card.md": "---\ntags: [x]\n---\nlicense: no\n"}, Reports(True)),
    ],
)
def test_reports_row_by_row(tmp_path, files, reports):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_reports(tmp_path) == reports


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"planted": [{"secret": "1"}]}', '{"planted": [{"prefix": "x"}]}', '{"hashed": {"key": "zz"}}']
)
def test_a_list_of_secrets_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "secrets.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=r"secrets\.json"):
        read_secrets(tmp_path)


# --- what is counted ---------------------------------------------------------------------------------------------

def test_the_llms_agreement_with_itself_is_between_conversations(tmp_path):
    rows = [row("A", "Is it?", "1"), row("A", "is it", "2"), row("B", "IS IT!", "3"), row("B", "is it", "3"),
            row("A", "alone", "4"), row("A", "alone", "4")]  # fmt: skip
    found, prompts = judge.baseline("label", question(tmp_path, *rows), 0.95)
    assert prompts == 1
    assert found.estimate == pytest.approx(1 / 5)  # five pairs of different conversations, one of which agrees


@pytest.mark.parametrize(("metric", "known"), [("label", True), ("tool_call", True), ("fields", False)])
def test_the_llms_agreement_in_the_log_is_a_yardstick_for_what_is_right_or_wrong(metric, known):
    found = judge.reported_baseline(metric, Reports(agreement=0.9, agreement_pairs=50), 0.95)
    assert (found is not None) is known
    if found:
        assert (found.estimate, found.groups) == (0.9, 50)
        assert found.interval == (pytest.approx(0.7864, abs=1e-4), pytest.approx(0.9565, abs=1e-4))
    assert judge.reported_baseline(metric, Reports(), 0.95) is None


def test_the_logs_count_stands_in_where_the_dataset_kept_no_copies(tmp_path):
    answers = [Answered(q, "A") for q in question(tmp_path, *(row("A", f"q{n}", str(n)) for n in range(9)))]
    run = Run((), 0.0, {"p50": 0.1, "p95": 0.1}, None, "here")
    reports = Reports(agreement=0.9, agreement_pairs=50)
    facts = evaluate.facts_of(["label"], answers, [a.question for a in answers], reports, Memory(), run, Gate())
    assert (facts.baseline.estimate, facts.baseline_groups) == (0.9, 50)


def test_slices_are_labels_lengths_and_languages(tmp_path):
    rows = [row("AB"[n % 2], "long " * 30 if n > 7 else "short" if n else "да", str(n)) for n in range(10)]
    answers = [Answered(q, q.reference.text if i else "wrong") for i, q in enumerate(question(tmp_path, *rows))]
    found = {(s.kind, s.name): (s.n, s.estimate) for s in judge.slices("label", answers, 0.95)}
    assert found[("label", "A")] == (5, 0.8)
    assert found[("label", "B")] == (5, 1.0)
    assert found[("length", "long")] == (2, 1.0)
    assert ("language", "latin") in found


def test_batches_hold_neighbours_in_length():
    assert batches_of([5, 100, 6, 7], 21) == [[0, 2, 3], [1]]


# --- what must not be remembered ---------------------------------------------------------------------------------

def test_invented_secrets_have_the_shape_and_are_not_the_secret():
    others = memorised.invented("Ab-12", 50, seed=0)
    assert len(set(others)) == 50 and "Ab-12" not in others
    assert all(o[0].isupper() and o[1].islower() and o[2] == "-" and o[3:].isdigit() for o in others)
    assert memorised.invented("Ab-12", 50, seed=0) == others
    assert len(memorised.invented("7", 50, seed=0)) == 9


def test_a_rank_counts_ties_against_being_known():
    assert memorised.rank(-1.0, [-2.0, -3.0]) == 1
    assert memorised.rank(-1.0, [-1.0, -0.5]) == 3


def test_enough_is_invented_to_make_the_likeliest_significant():
    for planted in (1, 10, 50):
        assert 1 / (memorised.needed(planted, 0.95) + 1) <= 0.05 / planted


def test_listed_values_are_found_by_their_hashes_alone():
    key = b"secret"
    digests = frozenset({hmac.new(key, b"jane q. doe", hashlib.sha256).hexdigest()})
    assert memorised.holds_listed("It belongs to Jane  Q. Doe.", key, digests)
    assert not memorised.holds_listed("It belongs to Jane Doe.", key, digests)
    assert not memorised.holds_listed("It belongs to Jane Q. Doe.", b"other", digests)


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ("mail ann@example.org", True),  # one training conversation alone has it
        ("mail ANN@example.org", True),
        ("mail help@shop.org", False),  # many have it
        ("number 4930 1234", False),  # in its own prompt
        ("nothing", False),
    ],
)
def test_a_value_of_another_conversation_alone_is_given_away(tmp_path, answer, given):
    trained = question(
        tmp_path, row("ann@example.org", "a", "1"), row("help@shop.org", "b", "2"), row("help@shop.org", "c", "3"),
        row("49301234", "d", "4"),
    )  # fmt: skip
    (asked,) = question(tmp_path, row("A", "about 4930-1234", "5"))
    rare = memorised.rare_values(q.example for q in trained)
    assert memorised.gives_away(answer, asked.example, rare) is given


# --- the command -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--floor", "1.1"], "--floor must lie in 0 to 1"),
        (["--confidence", "0.4"], "--confidence must lie in 0.5 to 0.9999"),
        (["--slice-floor", "-1"], "--slice-floor must lie in 0 to 1"),
        (["--max-latency", "0"], "--max-latency must be above 0"),
        (["--limit", "0"], "--limit must be above 0"),
    ],
)
def test_a_wrong_limit_is_refused_by_its_name(arguments, said):
    with pytest.raises(Refused, match=said):
        evaluate.gate_of(evaluate.parse_arguments(["--dataset", "d", "--model", "m", "--out", "o", *arguments]))


def test_an_unknown_metric_is_refused_by_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.parse_arguments(["--dataset", "d", "--model", "m", "--out", "o", "--metric", "label,bleu"])
    assert "'bleu' is none of auto, tool_call" in capsys.readouterr().err


def test_metrics_are_read_in_any_case_and_the_worst_is_the_result(tmp_path):
    rows = [row("AB"[n > 7], f"q{n}", str(n)) for n in range(10)]
    answers = [Answered(q, "A") for q in question(tmp_path, *rows)]
    given = evaluate.parse_arguments(["--dataset", "d", "--model", "m", "--out", "o", "--metric", "Label, Macro_F1"])
    names = given.metric.split(",")
    assert evaluate.judged_metrics(names, answers) == ["label", "macro_f1"]
    run = Run((), 0.0, {"p50": 0.1, "p95": 0.1}, None, "here")
    result = evaluate.result_of(names, answers, evaluate.facts_of(names, answers, [], Reports(), Memory(), run, Gate()),
                                Gate())  # fmt: skip
    assert (result["metric"], result["verdict"]) == ("macro_f1", "refused")
    assert [(m["name"], m["judged"]) for m in result["metrics"]][:2] == [("macro_f1", True), ("label", True)]


def test_nothing_left_to_judge_is_a_refusal_with_a_result():
    run = Run((), 0.0, {}, None, "nothing")
    result = evaluate.result_of(["auto"], [], evaluate.facts_of(["auto"], [], [], Reports(), Memory(), run, Gate()),
                                Gate())  # fmt: skip
    assert (result["verdict"], result["n"]) == ("refused", 0)
    assert result["reasons"] == ["no held-out example was left to judge"]


def test_a_long_word_is_searched_for_values_as_fast_as_any_text():
    assert memorised.values_in("x" * 300_000 + " a-1" * 1000) == set()
    assert memorised.values_in("a." * 100_000) == set()
