"""S6 on a real Kubernetes node: traffic changes, and the fleet follows without a hand. What `make demo-again` runs.

    python -m demo.again [--keep] [--name demo-again]

One Router in the mode Auto is all that is asked for. Week 1: a task is found in the log, gets a Specialist, is trained,
judged and rolled out. Week 2: its users ask for two new things under the same prompt, and a second task is new. A part
of the conversations stays with the LLM (`holdbackPercent`), so the log shows what the specialist does not know; the
next discovery finds both, the first Specialist is trained again and the second is made. Nothing is applied in between.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from demo import cluster, installing, loop, prepare, sending, weeks
from demo.cluster import ROOT, Failed, reach, until
from demo.manifests import fill
from demo.scoring import Share
from demo.steps import Options, Run, Step, take
from demo.traffic import read_lines

NEW_EXAMPLES = 1500  # week 2 sends some 2,800 of the voice task; fewer would have it trained a third time at once
INTERVAL_SECONDS = 280  # week 2's calls are all in the log by then, and its rollouts are over before it ends again
STEPS = 500
PRETRAIN_STEPS = 500
ROLLOUT_RATE = 20.0  # calls a second; trainings, two rollouts and replays of what is held back share the machine
LAST = "last"

Item = dict[str, Any]


def make_traffic(run: Run) -> None:
    """Two weeks of calls, and the code that the replayed LLM runs."""
    facts = weeks.write(run.traffic, run.options.seed)
    prepare.copy_code(run)
    for (phase, number), title in ((weeks.WEEK1, "week 1"), (weeks.WEEK2, "week 2")):
        rows = [row for row in facts["calls"] if (row["phase"], row["round"]) == (phase, number)]
        run.say(f"{title}: " + ", ".join(f"{row['calls']:,} {row['task']}" for row in rows))


def apply_router(run: Run) -> None:
    """The LLM's stand-in, and the one wish."""
    installing.apply_llm(run)
    first = sum(row["calls"] for row in calls(run, weeks.WEEK1))
    run.cluster.apply(
        fill("router-again", namespace=run.options.namespace, recipient=installing.recipient(run),
             minimum_calls=int(0.98 * first), interval_seconds=INTERVAL_SECONDS, steps=STEPS,
             new_examples=NEW_EXAMPLES)
    )  # fmt: skip
    installing.await_router(run)


def calls(run: Run, part: weeks.Part) -> list[dict[str, Any]]:
    """Rows of the manifest of one phase and round."""
    facts = json.loads((run.traffic / "manifest.json").read_text("utf-8"))
    return [row for row in facts["calls"] if (row["phase"], row["round"]) == part]


def send(run: Run, stage: str, part: weeks.Part) -> None:
    sending.send(run, stage, "--phase", part[0], "--round", str(part[1]))


def specialists(run: Run) -> dict[str, Item]:
    return {item["metadata"]["name"]: item for item in run.cluster.list("specialists")}


# Week 1


def first_week(run: Run) -> None:
    send(run, "week 1", weeks.WEEK1)


def first_specialist(run: Run) -> None:
    """Found, judged suitable, asked for by the operator, trained, rolled out."""
    found = until("a Specialist that nobody asked for", 600, lambda: specialists(run))
    run.note(f"week 1: the operator made {', '.join(sorted(found))}")
    roll_out(run, weeks.ROLLOUT1, lambda items: all(map(serves, items.values())), "week 1's Specialist")
    for name, item in specialists(run).items():
        run.clusters[name] = item["status"]["stable"]["name"]
        run.note(f"{name}: {told(item)}; labels: {labels(run, item)}")


# Week 2


def second_week(run: Run) -> None:
    """The same agent, two more intents under the same prompt, and a second agent."""
    send(run, "week 2", weeks.WEEK2)


def follow_the_traffic(run: Run) -> None:
    """Until the first Specialist serves what it was trained to again, and the new task has its own."""

    def done(items: dict[str, Item]) -> bool:
        again = all(retrained(items.get(name), before) for name, before in run.clusters.items())
        return again and len(items) > len(run.clusters) and all(map(serves, items.values()))

    roll_out(run, weeks.ROLLOUT2, done, "the retrained Specialist and the new one")
    for name, item in specialists(run).items():
        trigger = item["status"]["stable"].get("trigger")
        why = f"trained again ({trigger})" if trigger else "a new task, made by the operator"
        run.note(f"{name}: {why}; {told(item)}; labels: {labels(run, item)}")


def last_calls(run: Run) -> None:
    """Calls of week 2's kind that nothing has learned from."""
    send(run, LAST, weeks.LAST)


def roll_out(run: Run, part: weeks.Part, done: Callable[[dict[str, Item]], bool], what: str) -> None:
    """Follow to the end; calls come all the while, as they do."""
    until(f"{what}: something that wants calls", 900,
          lambda: done(specialists(run)) or any(map(loop.wants_traffic, moving(run))))  # fmt: skip
    with sending.rollout_traffic(run, f"rollout {part[1]}", rounds=(part[1],)):
        loop.follow(run, 900, done, what)


def moving(run: Run) -> list[Item]:
    """Specialists that are on their way: a promoted one that waits for week 2's discovery is not."""
    return [item for item in specialists(run).values()
            if not promoted(item) or retrained(item, run.clusters.get(item["metadata"]["name"], ""))]  # fmt: skip


def promoted(item: Item) -> bool:
    return loop.stage_of(item) == "Promoted"


def serves(item: Item) -> bool:
    """Whether a revision has all of its calls; the next one may already be on its way."""
    status = item.get("status") or {}
    return bool(status.get("stable")) and status.get("weightPercent") == 100


def retrained(item: Item | None, before: str) -> bool:
    stable = ((item or {}).get("status") or {}).get("stable") or {}
    return bool(before) and stable.get("name", before) != before


def told(item: Item) -> str:
    status = item["status"]
    return f"{loop.stage_of(item)}, gate {status.get('score')}, weight {status.get('weightPercent')} %"


def labels(run: Run, item: Item) -> int | None:
    cluster = run.cluster.get("taskcluster", item["spec"]["taskCluster"]) or {}
    return cluster.get("status", {}).get("labels")


# The table


def group(row: dict[str, Any], truth: dict[str, str]) -> str:
    if row["task"] != "snips":
        return row["task"] if row["task"] == "banking" else "other"
    return "voice, new intents" if truth.get(row["id"]) in weeks.NEW_INTENTS else "voice, known intents"


def table(rows: list[dict[str, Any]], truth: dict[str, str]) -> list[str]:
    """Who answered the last calls, and how often as the recorded LLM did."""
    lines = [f"{'last calls':22} {'calls':>6} {'specialist':>11} {'agrees with the record (95 %)':>31} {'errors':>7}"]
    for name in ("voice, known intents", "voice, new intents", "banking", "other"):
        mine = [row for row in rows if group(row, truth) == name]
        served = [row for row in mine if row["tier"] == "specialist"]
        agreed = Share(sum(bool(row["equals_recorded"]) for row in served), len(served))
        low, high = agreed.interval
        said = f"{100 * agreed.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})" if agreed.value is not None else "-"
        errors = sum(row["error"] is not None for row in mine)
        lines.append(f"{name:22} {len(mine):6} {len(served):11} {said:>31} {errors:7}")
    return lines


def write_report(run: Run) -> None:
    """What happened without a hand, and the last calls; also as again.json."""
    rows = [row for path in run.results.glob("*.jsonl") for row in read_lines(path)]
    truth = {row["id"]: row["true"] for row in read_lines(run.traffic / "truth.jsonl")}
    last = [row for row in rows if row["stage"] == LAST]
    lines = [*run.events, "", *table(last, truth), "",
             f"{len(rows):,} calls in all, {sum(row['error'] is not None for row in rows)} errors at the client",
             *(f"{seconds / 60:5.1f} min  {title}" for title, seconds in run.minutes)]  # fmt: skip
    items = run.cluster.list(cluster.KINDS)
    written = {"events": run.events, "minutes": run.minutes, "table": lines, "items": items}
    (run.options.work / "again.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    print("\n" + "\n".join(lines), flush=True)
    if failed := [row for row in rows if row["error"] is not None]:
        raise Failed(f"{len(failed)} calls failed at the client, the first with: {failed[0]['error']}")


PREPARE: tuple[Step, ...] = (
    ("clear the last run's files", prepare.clean),
    ("build images and environments", prepare.build_images),
    ("make two weeks of traffic", make_traffic),
    ("begin to pretrain the tiny base", prepare.begin_base),
)
LOOP: tuple[Step, ...] = (
    ("load images", installing.load_images),
    ("install the operator", partial(installing.install, flags=("--set", "autoSpecialists=true"))),
    ("put the gateway in front of the LLM", apply_router),
)
CALLS: tuple[Step, ...] = (
    ("week 1: the agent calls the LLM", first_week),
    ("offer the bases, the tiny one when it is trained", installing.apply_bases),
    ("week 1: a task is found, trained, judged, rolled out", first_specialist),
    ("week 2: the task drifts, and a second one is new", second_week),
    ("week 2: found, trained, judged, rolled out again", follow_the_traffic),
    ("calls that nothing has learned from", last_calls),
)


def again(options: Options) -> None:
    """All of it."""
    run = Run(options)
    take(run, PREPARE)
    with contextlib.ExitStack() as stack:
        take(run, (("start the cluster", lambda r: stack.enter_context(installing.some_cluster(r))),))
        take(run, LOOP)
        run.gateway = stack.enter_context(reach(run.cluster, installing.gateway_service(run), direct=run.own_cluster))
        take(run, CALLS)
        write_report(run)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.again", description=__doc__.split("\n\n")[0])
    parser.add_argument("--name", default="demo-again", help="of the development cluster")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo-again", help="emptied at the start")
    given = parser.parse_args()
    try:
        again(Options(name=given.name, namespace="slmfleet-again", seed=given.seed, keep=given.keep,
                      work=given.work.absolute(), rollout_rate=ROLLOUT_RATE,
                      pretrain_steps=PRETRAIN_STEPS))  # fmt: skip
    except Failed as failure:
        sys.exit(f"demo-again: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
