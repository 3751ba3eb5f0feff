"""Makes the demo's traffic: which calls an agent sends, when, and what the LLM had answered. Deterministic by seed.

    python -m demo.traffic --out DIR [--size small|demo|full] [--system-prompt own|shared|none|reworded] [--seed 7]

Two narrow tasks, one utterance in and strict JSON out: SNIPS (7 intents) and BANKING77 (77). Their answers are made
from people's labels; a stated share is wrong, as a large model's would be, by naming a plausible other label. Mixed
with what MetaGPT and a coding agent really sent and got, which no small specialist should take. Arrivals follow the
Azure trace. Everything is split into `train` and `later` by conversation, before anything learns from it: no text of a
`later` call is in a `train` call, whatever its case or punctuation.

Writes calls.jsonl, answers.jsonl (what the replayed LLM knows), truth.jsonl (true labels, for the report only),
pretrain.jsonl (text of the earlier `train` calls for the base model), manifest.json (written last).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from demo import sample
from demo.keys import content_text, normal, request_key
from demo.prompts import SETTINGS, system_prompt

MODEL = "demo-llm"
WRONG_SHARE = {"snips": 0.02, "banking": 0.08}
LATER_OTHER_SHARE = 0.2
TURNS = ((1, 0.7), (2, 0.2), (3, 0.1))  # calls in a conversation of a narrow task, and how often
PRETRAIN_TIME_SHARE = 0.75  # of the calls of a `train` phase, the earliest
PRETRAIN_PROMPT_CHARACTERS, PRETRAIN_ANSWER_CHARACTERS = 600, 400


@dataclass(frozen=True)
class Size:
    """Calls by phase. `rounds` of later calls can be sent one after the other; no two share a narrow utterance."""

    train: dict[str, int]
    later: dict[str, int]
    rounds: int


SIZES = {
    "small": Size({"snips": 300, "banking": 600, "other": 120}, {"snips": 60, "banking": 60, "other": 30}, 2),
    "demo": Size({"snips": 4500, "banking": 6900, "other": 800}, {"snips": 600, "banking": 600, "other": 200}, 5),
    "full": Size({"snips": 5900, "banking": 6900, "other": 800}, {"snips": 600, "banking": 600, "other": 200}, 5),
}


@dataclass(frozen=True)
class Turn:
    """One call of a conversation, before it has a time."""

    messages: tuple[dict[str, str], ...]
    answer: str
    true_label: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Conversation:
    """Calls that belong together. Two conversations that share a `group` are never in different phases."""

    task: str
    turns: tuple[Turn, ...]
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Call:
    """One line of calls.jsonl. `task` is for the report and never sent."""

    id: str
    phase: str
    round: int
    task: str
    conversation: str
    at_seconds: float
    request: dict[str, Any]


@dataclass(frozen=True)
class Traffic:
    """Everything that is written."""

    calls: list[Call]
    answers: list[dict[str, str]]
    truth: list[dict[str, Any]]
    pretrain: list[dict[str, Any]]


def draw_for(seed: int, *purpose: object) -> random.Random:
    """A stream of its own for each purpose, so that more of one never changes another."""
    return random.Random("/".join(map(str, (seed, *purpose))))


# The narrow tasks


@cache
def labelled(name: str) -> tuple[tuple[str, str], ...]:
    """(text, label) without texts that come twice; those with two labels go altogether."""
    labels: dict[str, set[str]] = defaultdict(set)
    rows: dict[str, tuple[str, str]] = {}
    for line in sample.read(f"{name}.tsv.gz"):
        label, text = line.split("\t", 1)
        labels[normal(text)].add(label)
        rows.setdefault(normal(text), (text, label))
    return tuple(row for key, row in rows.items() if len(labels[key]) == 1)


def word_counts(rows: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    """How often each label's texts use each word."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in rows:
        counts[label].update(set(normal(text).split()))
    return counts


def neighbours(text: str, label: str, counts: dict[str, Counter[str]]) -> list[str]:
    """Other labels, most alike first: shared words, rare ones weighing more."""
    spread = {word: sum(word in c for c in counts.values()) for word in set(normal(text).split())}

    def likeness(other: str) -> float:
        size = sum(counts[other].values())
        return sum(counts[other][word] / size / n for word, n in spread.items() if n)

    return sorted((each for each in counts if each != label), key=lambda each: (-likeness(each), each))


def recorded_labels(
    rows: list[tuple[str, str]], wrong_share: float, counts: dict[str, Counter[str]], draw: random.Random
) -> list[str]:
    """What the LLM had answered: exactly that share is wrong, by one of the three likeliest other labels."""
    wrong = set(draw.sample(range(len(rows)), round(wrong_share * len(rows))))
    return [
        draw.choice(neighbours(text, label, counts)[:3]) if i in wrong else label
        for i, (text, label) in enumerate(rows)
    ]


def narrow(
    task: str, rows: list[tuple[str, str]], labels: list[str], setting: str, draw: random.Random
) -> Iterator[Conversation]:
    """Conversations of one to three calls; every call stands alone, as a router's or a classifier's does."""
    sizes, weights = zip(*TURNS, strict=True)
    start = 0
    while start < len(rows):
        end = min(len(rows), start + draw.choices(sizes, weights)[0])
        system = system_prompt(setting, task, draw)
        frame = ({"role": "system", "content": system},) if system else ()
        yield Conversation(
            task,
            tuple(
                Turn((*frame, {"role": "user", "content": text}), json.dumps({"intent": label}), true, label)
                for (text, true), label in zip(rows[start:end], labels[start:end], strict=True)
            ),
        )
        start = end


# The other traffic


@cache
def metagpt() -> tuple[Conversation, ...]:
    rows = map(json.loads, sample.read("metagpt.jsonl.gz"))
    return tuple(other("metagpt", [(row["prompt"], row["response"])], frozenset()) for row in rows)


@cache
def agbenchmark() -> tuple[Conversation, ...]:
    """A run of one test on one day is a conversation; runs of one test stay together."""
    runs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in sample.read("agbenchmark.jsonl.gz"):
        row = json.loads(line)
        runs[row["run"]].append((row["prompt"], row["response"]))
    return tuple(other("agbenchmark", pairs, frozenset({f"test {run.split(' ')[0]}"})) for run, pairs in runs.items())


def other(task: str, pairs: list[tuple[str, str]], groups: frozenset[str]) -> Conversation:
    texts = {text for prompt, _ in pairs for text in (normal(prompt), normal(prompt[-PRETRAIN_PROMPT_CHARACTERS:]))}
    turns = tuple(Turn(as_messages(prompt), answer) for prompt, answer in pairs if answer)
    return Conversation(task, turns, groups | texts)


def as_messages(prompt: str) -> tuple[dict[str, str], ...]:
    """A recorded prompt as it was sent: a few are lists of messages already."""
    if prompt.lstrip().startswith('[{"role"'):
        try:
            return tuple({"role": m["role"], "content": m["content"]} for m in json.loads(prompt))
        except (ValueError, KeyError, TypeError):
            pass
    return ({"role": "user", "content": prompt},)


def together(conversations: list[Conversation]) -> list[list[Conversation]]:
    """Conversations that share a group, directly or over others, in one list."""
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while leader.setdefault(group, group) != group:
            group = leader[group]
        return group

    for each in conversations:
        first, *rest = sorted(each.groups)
        for group in rest:
            leader[find(group)] = find(first)
    joined: dict[str, list[Conversation]] = defaultdict(list)
    for each in conversations:
        joined[find(min(each.groups))].append(each)
    return list(joined.values())


def split_other(
    conversations: list[Conversation], draw: random.Random
) -> tuple[list[Conversation], list[Conversation]]:
    """(train, later): whole groups, about a fifth of the calls later."""
    groups = together(conversations)
    draw.shuffle(groups)
    wanted = LATER_OTHER_SHARE * sum(len(c.turns) for c in conversations)
    train: list[Conversation] = []
    later: list[Conversation] = []
    for group in groups:
        full = count(later) + count(group) > wanted * 1.1
        (train if full else later).extend(group)
    return train, later


def count(conversations: Iterable[Conversation]) -> int:
    return sum(len(c.turns) for c in conversations)


def first_calls(conversations: list[Conversation], limit: int) -> list[Conversation]:
    """As many conversations as hold `limit` calls; the last is cut, and the list begins again when it is too short."""
    taken: list[Conversation] = []
    left = limit
    while left > 0 and conversations:
        for each in conversations:
            if left <= 0:
                break
            taken.append(replace(each, turns=each.turns[:left]))
            left -= len(each.turns)
    return taken


# Phases


def phases(size: Size, setting: str, seed: int) -> list[tuple[str, int, list[Conversation]]]:
    """(phase, round, its conversations), in the order in which they are sent."""
    parts: dict[tuple[str, int], list[Conversation]] = defaultdict(list)
    for task, source in (("snips", "snips"), ("banking", "banking77")):
        for part, conversations in narrow_parts(task, source, size, setting, seed):
            parts[part] += conversations
    for task, conversations in (("metagpt", list(metagpt())), ("agbenchmark", list(agbenchmark()))):
        draw = draw_for(seed, "other", task)
        draw.shuffle(conversations)
        train, later = split_other(conversations, draw)
        parts["train", 0] += first_calls(train, min(count(train), size.train["other"] // 2))
        for number in range(1, size.rounds + 1):
            draw.shuffle(later)
            parts["later", number] += first_calls(later, size.later["other"] // 2)
    return [(phase, number, parts[phase, number]) for phase, number in sorted(parts, key=lambda part: part[1])]


def narrow_parts(
    task: str, source: str, size: Size, setting: str, seed: int
) -> Iterator[tuple[tuple[str, int], list[Conversation]]]:
    rows = list(labelled(source))
    draw_for(seed, task, "order").shuffle(rows)
    need = size.train[task] + size.rounds * size.later[task]
    if need > len(rows):
        raise ValueError(
            f"{task}: {need} distinct utterances wanted, the sample has {len(rows)}; choose a smaller size"
        )
    counts = word_counts(rows[: size.train[task]])
    start = 0
    for part in [("train", 0), *(("later", number) for number in range(1, size.rounds + 1))]:
        end = start + (size.train if part[0] == "train" else size.later)[task]
        labels = recorded_labels(rows[start:end], WRONG_SHARE[task], counts, draw_for(seed, task, "wrong", *part))
        yield part, list(narrow(task, rows[start:end], labels, setting, draw_for(seed, task, "turns", *part)))
        start = end


def interleave(conversations: list[Conversation], draw: random.Random) -> list[tuple[int, Turn]]:
    """All calls in one order: conversations begin anywhere and overlap, each keeps its own order."""
    placed = []
    for number, each in enumerate(conversations):
        begin = draw.random()
        placed += [(begin + 0.005 * i, number, i, turn) for i, turn in enumerate(each.turns)]
    return [(number, turn) for _, number, _, turn in sorted(placed, key=lambda p: p[:3])]


def early_conversations(order: list[tuple[int, Turn]], shares: list[float]) -> set[int]:
    """Those that end in the first part of the phase, as large as their share says: the base learns from no other.

    The gate judges on the latest conversations of this very phase (a fifth, as Specialists ask by default). A base that
    had seen them would make the gate say too much.
    """
    last = {which: position for position, (which, _) in enumerate(order)}
    return {which for which, position in last.items() if position < shares[which] * len(order)}


def arrivals() -> Iterator[float]:
    """Seconds of the trace, without end."""
    gaps = [int(line) for line in sample.read("azure-conv.txt.gz")]
    now = 0
    while True:
        for gap in gaps:
            yield now / 1000
            now += gap


def request_body(task: str, turn: Turn) -> dict[str, Any]:
    body = {"model": MODEL, "messages": list(turn.messages), "temperature": 0}
    if task in WRONG_SHARE:
        return {**body, "max_tokens": 48, "response_format": {"type": "json_object"}}
    return {**body, "max_tokens": 2048}


def build(size: Size, setting: str, seed: int, task_share: float = 1.0) -> Traffic:
    """The whole traffic. `task_share`: see `pretraining`."""
    return assembled(phases(size, setting, seed), seed, task_share)


def assembled(
    parts: Iterable[tuple[str, int, list[Conversation]]],
    seed: int,
    task_share: float = 1.0,
    time_shares: Mapping[tuple[str, int, str], float] | None = None,
) -> Traffic:
    """Phases with their rounds and conversations, as calls with their times, answers and truth. `time_shares`: of the
    calls of a phase, round and task, the earliest that the base may learn from; PRETRAIN_TIME_SHARE where not said."""
    calls: list[Call] = []
    answers: dict[tuple[str, str], dict[str, str]] = {}
    truth: list[dict[str, Any]] = []
    learned: list[tuple[str, Turn]] = []
    clock = arrivals()
    for phase, number, conversations in parts:
        order = interleave(conversations, draw_for(seed, "order", phase, number))
        shares = [(time_shares or {}).get((phase, number, c.task), PRETRAIN_TIME_SHARE) for c in conversations]
        early = early_conversations(order, shares) if phase == "train" else set()
        for which, turn in order:
            task = conversations[which].task
            call = Call(
                f"c{len(calls):06d}", phase, number, task, f"{phase}-{number}-{which:05d}", next(clock),
                request_body(task, turn),
            )  # fmt: skip
            calls.append(call)
            key = request_key(call.request["messages"])
            answers.setdefault((key, turn.answer), {"key": key, "content": turn.answer})
            if which in early:
                learned.append((task, turn))
            if turn.label is not None:
                truth.append({"id": call.id, "task": task, "true": turn.true_label, "recorded": turn.label})
    return Traffic(calls, list(answers.values()), truth, pretraining(learned, task_share, draw_for(seed, "pretrain")))


# The base model's text


def pretraining(learned: list[tuple[str, Turn]], task_share: float, draw: random.Random) -> list[dict[str, Any]]:
    """What the base model may see: text of the earlier `train` calls only.

    Of the narrow calls `task_share` are shown with their answers. The rest show their words and their labels, but not
    which belongs to which: a base that knows the language and not the task, which leaves the task to the adapter.
    """
    labels = {
        task: sorted({turn.label for each, turn in learned if each == task and turn.label}) for task in WRONG_SHARE
    }
    lines: list[dict[str, Any]] = []
    for task, turn in learned:
        if task not in labels:
            lines.append({"messages": [*cut(turn.messages), said(turn.answer[:PRETRAIN_ANSWER_CHARACTERS])]})
        elif draw.random() < task_share:
            lines.append({"messages": [*turn.messages, said(turn.answer)]})
        else:
            lines += words_only(turn, labels[task], draw)
    return lines


def words_only(turn: Turn, labels: list[str], draw: random.Random) -> list[dict[str, Any]]:
    """An utterance to go on with, the same to repeat, and a label that has nothing to do with it."""
    text = turn.messages[-1]["content"]
    words = text.split()
    half = max(1, len(words) // 2)
    name = draw.choice(labels)
    return [
        asked("Go on", " ".join(words[:half]), " ".join(words[half:]) or text),
        asked("Repeat", text, text),
        asked("Write as JSON", name, json.dumps({"intent": name})),
    ]


def asked(order: str, what: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"{order}: {what}"}, said(answer)]}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def cut(messages: tuple[dict[str, str], ...]) -> list[dict[str, str]]:
    """The end of a long prompt, which is where its question is."""
    text = "\n\n".join(content_text(message["content"]) for message in messages)
    return [{"role": "user", "content": text[-PRETRAIN_PROMPT_CHARACTERS:]}]


# Files


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Returns the file's digest."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def manifest(traffic: Traffic, digests: dict[str, str], given: dict[str, Any]) -> dict[str, Any]:
    counts = Counter((call.phase, call.round, call.task) for call in traffic.calls)
    wrong = Counter(row["task"] for row in traffic.truth if row["true"] != row["recorded"])
    total = Counter(row["task"] for row in traffic.truth)
    return {
        "schema": "slmfleet-demo/traffic/v1",
        **given,
        "calls": [
            {"phase": phase, "round": number, "task": task, "calls": calls}
            for (phase, number, task), calls in sorted(counts.items(), key=lambda item: (item[0][1], item[0][2]))
        ],
        "conversations": len({call.conversation for call in traffic.calls}),
        "wrong_share_asked": WRONG_SHARE,
        "wrong_share": {task: round(wrong[task] / total[task], 4) for task in total},
        "pretrain_conversations": len(traffic.pretrain),
        "recorded_answers": len(traffic.answers),
        "trace_seconds": round(traffic.calls[-1].at_seconds, 1),
        "files": digests,
        "sources": json.loads((sample.HERE / "SOURCES.json").read_text("utf-8")),
    }


def write(out: Path, size: str, setting: str, seed: int, task_share: float) -> dict[str, Any]:
    """Make the traffic and write it; returns the manifest."""
    given = {"size": size, "system_prompt": setting, "seed": seed, "pretrain_task_share": task_share}
    return write_files(out, build(SIZES[size], setting, seed, task_share), given)


def write_files(out: Path, traffic: Traffic, given: dict[str, Any]) -> dict[str, Any]:
    """Write traffic; returns the manifest. `given`: what it was made from, for the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "calls.jsonl": lambda: map(asdict, traffic.calls),
        "answers.jsonl": lambda: traffic.answers,
        "truth.jsonl": lambda: traffic.truth,
        "pretrain.jsonl": lambda: traffic.pretrain,
    }
    digests = {name: write_lines(out / name, make()) for name, make in rows.items()}
    facts = manifest(traffic, digests, given)
    (out / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.traffic", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--system-prompt", choices=SETTINGS, default="own")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pretrain-task-share", type=float, default=1.0,
                        help="share of narrow training calls that the base sees with their answers")  # fmt: skip
    given = parser.parse_args()
    facts = write(given.out, given.size, given.system_prompt, given.seed, given.pretrain_task_share)
    for row in facts["calls"]:
        print(f"{row['phase']:5} {row['round']} {row['task']:12} {row['calls']:6}")
    print(f"wrote {given.out}: {len(facts['files'])} files, wrong answers {facts['wrong_share']}")


if __name__ == "__main__":
    main()
