"""The table at the end of the demo. Everything in it was measured in that run, from the client's side where possible.

    python -m demo.report --results DIR/results-*.jsonl --traffic DIR --status DIR/status.json --out DIR/report.json

`build` is pure: rows in, a Report out; `render` makes it text. What a reader might take for more than it is, it says:
the LLM is a replay of recorded answers, whose delay is drawn and whose errors are made; latency and money of the LLM
are therefore an assumption, those of the specialists are measured at the prices that the Router states.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo.scoring import Share, TaskScore, percentile, score
from demo.traffic import WRONG_SHARE, read_lines

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Prices:
    """Per million tokens."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0

    @classmethod
    def parse(cls, value: dict[str, Any] | None) -> Prices:
        value = value or {}
        return cls(float(value.get("inputPerMillion", 0)), float(value.get("outputPerMillion", 0)))

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        return (self.input_per_million * input_tokens + self.output_per_million * output_tokens) / 1e6


@dataclass(frozen=True)
class SpecialistFacts:
    """What one Specialist asked for and came to, from its manifest and status."""

    name: str
    cluster: str
    stage: str
    weight_percent: int
    floor: float
    margin: float
    score: str
    base: str
    stable: str | None
    training_seconds: dict[str, float]  # by revision
    history: list[tuple[str, str, str]]  # revision, outcome, reason
    cluster_calls: int | None = None


@dataclass(frozen=True)
class Inputs:
    """All that a report is made of. `stage` of a result is `before`, `rollout`, `after` or any other word."""

    results: list[dict[str, Any]]
    truth: dict[str, dict[str, Any]]
    specialists: list[SpecialistFacts]
    llm_prices: Prices = Prices()
    pool_prices: Prices = Prices()
    pod_hour_price: float = 0.0
    currency: str = "USD"
    minutes: list[tuple[str, float]] = field(default_factory=list)  # step, seconds
    assignments: list[tuple[str, str | None]] | None = None  # (true task, cluster)
    wrong_share: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)  # sentences of the run, e.g. the pool's way


@dataclass(frozen=True)
class Agreement:
    """How answers on calls never trained on compare."""

    task: str
    tier: str
    recorded: Share
    true: Share
    llm_true: Share  # the recorded answers themselves, on the same calls


@dataclass(frozen=True)
class Latency:
    """Seconds that the client waited."""

    what: str
    calls: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class Savings:
    """Tokens and money; `net` is after serving and training."""

    calls: int
    input_tokens: int
    output_tokens: int
    llm_cost_avoided: float
    serving_cost: float
    training_seconds: float
    training_cost: float
    pod_hour_price: float
    currency: str

    @property
    def net(self) -> float:
        return self.llm_cost_avoided - self.serving_cost - self.training_cost

    @property
    def calls_to_break_even(self) -> int | None:
        """Calls that pay for the training, at the mean saving of a call."""
        if self.calls == 0 or self.llm_cost_avoided <= self.serving_cost:
            return None
        return round(self.training_cost / ((self.llm_cost_avoided - self.serving_cost) / self.calls))


@dataclass(frozen=True)
class Report:
    """The whole table."""

    specialists: list[SpecialistFacts]
    found: list[TaskScore]
    taken: list[TaskScore]
    tiers: dict[str, dict[str, dict[str, int]]]  # stage, task, tier: calls
    agreement: list[Agreement]
    latency: list[Latency]
    savings: Savings
    escalations: dict[str, int]
    spills: dict[str, int]
    errors: dict[str, int]  # by stage
    error_samples: list[str]
    calls: int
    minutes: list[tuple[str, float]]
    wrong_share: dict[str, float]
    events: list[str]


def build(inputs: Inputs) -> Report:
    """Every figure from the rows, nothing from anywhere else."""
    results = inputs.results
    after = [row for row in results if row["stage"] == AFTER]
    return Report(
        specialists=inputs.specialists,
        found=score(inputs.assignments, WRONG_SHARE) if inputs.assignments else [],
        taken=score(((row["task"], row["specialist"]) for row in after), WRONG_SHARE),
        tiers=tiers(results),
        agreement=agreement(after, inputs.truth),
        latency=latency(results),
        savings=savings(inputs),
        escalations=dict(Counter(row["escalated"] for row in results if row["escalated"])),
        spills=dict(Counter(row["spilled"] for row in results if row["spilled"])),
        errors=dict(Counter(row["stage"] for row in results if row["error"])),
        error_samples=[f"{row['id']} ({row['stage']}): {row['error']}" for row in results if row["error"]][:5],
        calls=len(results),
        minutes=inputs.minutes,
        wrong_share=inputs.wrong_share,
        events=inputs.events,
    )


def kind(task: str) -> str:
    """The recorded agents' calls are one thing to the report."""
    return task if task in WRONG_SHARE else "other"


def tiers(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in results:
        tier = "error" if row["error"] else row["tier"] or "unknown"
        counts[row["stage"]][kind(row["task"])][tier] += 1
    return {stage: {task: dict(each) for task, each in sorted(tasks.items())} for stage, tasks in counts.items()}


def agreement(after: list[dict[str, Any]], truth: dict[str, dict[str, Any]]) -> list[Agreement]:
    """By task and by who answered. An error counts as no answer, not as a wrong one: it is counted by itself."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in after:
        if row["id"] in truth and not row["error"]:
            groups[row["task"], row["tier"] or "unknown"].append(row)
            groups[row["task"], "all"].append(row)
    return [
        Agreement(
            task,
            tier,
            Share(sum(bool(row["equals_recorded"]) for row in rows), len(rows)),
            Share(sum(row["label"] == truth[row["id"]]["true"] for row in rows), len(rows)),
            Share(sum(truth[row["id"]]["recorded"] == truth[row["id"]]["true"] for row in rows), len(rows)),
        )
        for (task, tier), rows in sorted(groups.items(), reverse=True)
    ]


def latency(results: list[dict[str, Any]]) -> list[Latency]:
    """Narrow calls before and after, by tier, so that like is compared with like; then the rest."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in results:
        if row["error"] or row["stage"] not in (BEFORE, AFTER):
            continue
        what = "narrow calls" if row["task"] in WRONG_SHARE else "other calls"
        groups[f"{what}, {row['stage']}, {row['tier'] or 'unknown'}"].append(row["latency_seconds"])
    return [
        Latency(what, len(all_), percentile(all_, 50), percentile(all_, 95)) for what, all_ in sorted(groups.items())
    ]


def savings(inputs: Inputs) -> Savings:
    served = [row for row in inputs.results if row["tier"] == "specialist" and not row["error"]]
    read = sum(row["input_tokens"] or 0 for row in served)
    written = sum(row["output_tokens"] or 0 for row in served)
    seconds = sum(sum(each.training_seconds.values()) for each in inputs.specialists)
    return Savings(
        len(served), read, written, inputs.llm_prices.cost(read, written), inputs.pool_prices.cost(read, written),
        seconds, seconds / 3600 * inputs.pod_hour_price, inputs.pod_hour_price, inputs.currency,
    )  # fmt: skip


# From the cluster's objects


def specialist_facts(item: dict[str, Any], clusters: dict[str, dict[str, Any]]) -> SpecialistFacts:
    """One `kubectl get specialist -o json`, with the defaults that the API server wrote into it."""
    spec, status = item["spec"], item.get("status") or {}
    gate, training = spec.get("gate") or {}, {}
    for revision in (status.get("stable"), status.get("candidate")):
        if revision and revision.get("trainingSeconds"):
            training[revision["name"]] = float(revision["trainingSeconds"])
    history = [(each["revision"], each["outcome"], each.get("reason", "")) for each in status.get("history") or []]
    cluster = clusters.get(spec["taskCluster"], {}).get("status") or {}
    return SpecialistFacts(
        name=item["metadata"]["name"],
        cluster=spec["taskCluster"],
        stage=status.get("stage") or "unknown",
        weight_percent=status.get("weightPercent") or 0,
        floor=float(gate.get("floor", 0.9)),
        margin=float(gate.get("margin", 0.02)),
        score=status.get("score") or "none",
        base=status.get("base") or "none",
        stable=(status.get("stable") or {}).get("name"),
        training_seconds=training,
        history=history,
        cluster_calls=cluster.get("calls"),
    )


def inputs_of(
    results: list[dict[str, Any]], truth: list[dict[str, Any]], status: dict[str, Any], **more: Any
) -> Inputs:
    """`status`: {"items": […]} of `kubectl get routers,taskclusters,specialists,basemodels -o json`, and what
    `demo.run` adds to it: `gates` (floor and margin asked by specialist, for the manifest may have changed since),
    `training_seconds` (by specialist and job: what was paid for), `minutes`, `events`."""
    by_kind: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for item in status.get("items", []):
        by_kind[item["kind"]][item["metadata"]["name"]] = item
    specialists = []
    for name, item in sorted(by_kind["Specialist"].items()):
        facts = asdict(specialist_facts(item, by_kind["TaskCluster"]))
        facts |= status.get("gates", {}).get(name, {})
        facts["training_seconds"] = status.get("training_seconds", {}).get(name, facts["training_seconds"])
        specialists.append(SpecialistFacts(**facts))
    router = next(iter(by_kind["Router"].values()), {}).get("spec", {})
    used = {each.base for each in specialists}
    pools = [item["spec"].get("pool", {}) for name, item in by_kind["BaseModel"].items() if name in used]
    return Inputs(
        results=results,
        truth={row["id"]: row for row in truth},
        specialists=specialists,
        llm_prices=Prices.parse(router.get("llm", {}).get("prices")),
        pool_prices=Prices.parse(pools[0].get("prices") if pools else None),
        currency=router.get("currency", "USD"),
        minutes=[(step, seconds) for step, seconds in status.get("minutes", [])],
        events=status.get("events", []),
        **more,
    )


# Text

_RED, _BOLD, _PLAIN = "\x1b[31;1m", "\x1b[1m", "\x1b[0m"


class Page:
    """Lines of text, with colour where it is shown on a terminal."""

    def __init__(self, colour: bool) -> None:
        self.lines: list[str] = []
        self._colour = colour

    def title(self, text: str) -> None:
        self.lines += ["", self.paint(text, _BOLD)]

    def paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_PLAIN}" if self._colour else text

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """Columns as wide as they need; the first to the left, the others to the right."""
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            self.line("  ".join(cells).rstrip())


def percent(share: Share) -> str:
    return "none" if share.value is None else f"{share.value:.1%}"


def with_interval(share: Share) -> str:
    if share.value is None:
        return "none"
    low, high = share.interval
    return f"{share.value:.1%} ({low:.1%} to {high:.1%}) of {share.n:,}"


def seconds(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def render(report: Report, colour: bool = False) -> str:
    """The report as text, at most 120 characters wide where its names allow."""
    page = Page(colour)
    page.title("slmfleet demo: measured in this run")
    page.line("The LLM is a replay of recorded answers with a large model's delay; it stands in for an LLM here only.")
    for task, share in report.wrong_share.items():
        page.line(f"Of the answers it gives to {task}, {share:.1%} are wrong on purpose, as a large model's would be.")
    _specialists(page, report)
    _scores(page, "Tasks found in the log against tasks sent", report.found, "cluster")
    _scores(page, "Calls that specialists claimed, against what was sent (after, calls never trained on)", report.taken,
            "specialist")  # fmt: skip
    _tiers(page, report)
    _agreement(page, report)
    page.title("What the client waited")
    waits = [[each.what, f"{each.calls:,}", seconds(each.p50), seconds(each.p95)] for each in report.latency]
    page.table(["calls", "n", "p50", "p95"], waits)
    _savings(page, report.savings)
    _failures(page, report)
    if report.events:
        page.title("What happened on the way")
        for event in report.events:
            page.line(event)
    if report.minutes:
        page.title("Minutes")
        page.table(["step", "minutes"], [[step, f"{value / 60:.1f}"] for step, value in report.minutes])
        page.line(f"together {sum(value for _, value in report.minutes) / 60:.1f}")
    return "\n".join(page.lines) + "\n"


def _specialists(page: Page, report: Report) -> None:
    page.title("Specialists: what was asked of each, and what became of it")
    page.table(
        ["specialist", "task cluster", "base", "floor", "margin", "gate", "stage", "weight", "serves"],
        [
            [each.name, each.cluster, each.base, f"{each.floor:.2f}", f"{each.margin:.2f}", each.score, each.stage,
             f"{each.weight_percent} %", each.stable or "nothing"]
            for each in report.specialists
        ],
    )  # fmt: skip
    for each in report.specialists:
        for revision, outcome, reason in each.history:
            page.line(f"{each.name}: revision {revision} {outcome}. {reason}".rstrip())


def _scores(page: Page, title: str, scores: list[TaskScore], group: str) -> None:
    if not scores:
        return
    page.title(title)
    page.table(
        ["task", group, "sent", "purity", "missed", "foreign taken", "further parts"],
        [
            [each.task, each.group or "none", f"{each.sent:,}", percent(each.purity),
             f"{each.missed.good:,} ({percent(each.missed)})", f"{each.foreign.good:,} ({percent(each.foreign)})",
             str(each.fragments)]
            for each in scores
        ],
    )  # fmt: skip


def _tiers(page: Page, report: Report) -> None:
    page.title("Calls by tier")
    names = sorted({tier for tasks in report.tiers.values() for each in tasks.values() for tier in each})
    rows = []
    for stage, tasks in report.tiers.items():
        for task, each in tasks.items():
            total = sum(each.values())
            rows.append(
                [
                    f"{stage}, {task}",
                    f"{total:,}",
                    *(f"{each.get(t, 0):,} ({each.get(t, 0) / total:.0%})" for t in names),
                ]
            )
    page.table(["stage, task", "calls", *names], rows)


def _agreement(page: Page, report: Report) -> None:
    page.title("Answers on calls never trained on (Wilson 95 % intervals)")
    page.table(
        ["task, answered by", "as recorded", "as the true label", "the LLM's answers, as the true label"],
        [
            [
                f"{each.task}, {each.tier}",
                with_interval(each.recorded),
                with_interval(each.true),
                percent(each.llm_true),
            ]
            for each in report.agreement
        ],
    )


def _savings(page: Page, saved: Savings) -> None:
    page.title("Tokens and money, at the Router's stated prices")
    coin = saved.currency
    page.line(
        f"served by specialists: {saved.calls:,} calls, {saved.input_tokens:,} tokens in, {saved.output_tokens:,} out"
    )
    page.line(f"LLM cost avoided {saved.llm_cost_avoided:.4f} {coin}, serving {saved.serving_cost:.4f} {coin}")
    page.line(f"training {saved.training_seconds:,.0f} s at {saved.pod_hour_price:.2f} {coin} an hour: "
              f"{saved.training_cost:.4f} {coin}")  # fmt: skip
    page.line(f"net {saved.net:+.4f} {coin}")
    if saved.net < 0 and saved.calls_to_break_even is not None:
        page.line(f"the training is paid for after {saved.calls_to_break_even:,} calls like these")


def _failures(page: Page, report: Report) -> None:
    page.title("Escalations and errors")
    for name, counts in (("escalated to the LLM", report.escalations), ("passed on untried", report.spills)):
        detail = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
        page.line(f"{name}: {sum(counts.values()):,}" + (f" ({detail})" if detail else ""))
    errors = sum(report.errors.values())
    text = f"errors seen by the client: {errors:,} of {report.calls:,} calls"
    page.line(page.paint(text, _RED) if errors else text)
    for sample in report.error_samples:
        page.line(page.paint(sample, _RED))


def as_json(report: Report) -> str:
    """report.json: everything in the table, and what is derived from it."""
    whole = asdict(report)
    whole["savings"] |= {"net": report.savings.net, "calls_to_break_even": report.savings.calls_to_break_even}
    for name in ("found", "taken"):
        for row, each in zip(whole[name], getattr(report, name), strict=True):
            row["missed"] = asdict(each.missed)
    for row, each in zip(whole["agreement"], report.agreement, strict=True):
        row["recorded_interval"], row["true_interval"] = each.recorded.interval, each.true.interval
    whole["errors_total"] = sum(report.errors.values())
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="what demo.agent wrote")
    parser.add_argument("--traffic", type=Path, required=True, help="folder that demo.traffic wrote")
    parser.add_argument("--status", type=Path, required=True, help="JSON of the cluster's objects")
    parser.add_argument("--pod-hour-price", type=float, default=0.0, help="price of an hour of training")
    parser.add_argument("--out", type=Path, help="write report.json, too")
    given = parser.parse_args()
    manifest = json.loads((given.traffic / "manifest.json").read_text("utf-8"))
    report = build(
        inputs_of(
            [row for path in given.results for row in read_lines(path)],
            read_lines(given.traffic / "truth.jsonl"),
            json.loads(given.status.read_text("utf-8")),
            pod_hour_price=given.pod_hour_price,
            wrong_share=manifest["wrong_share"],
        )
    )
    if given.out:
        given.out.write_text(as_json(report), encoding="utf-8")
    print(render(report, sys.stdout.isatty()), end="")


if __name__ == "__main__":
    main()
