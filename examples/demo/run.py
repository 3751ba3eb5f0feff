"""The whole loop on a real Kubernetes node, from an agent's first call to the table: what `make demo` runs.

    python -m demo.run [--keep] [--size demo] [--name demo]

Steps are functions of a `Run`, in the order of PREPARE, LOOP and CALLS; each prints its number and its minutes. Where
KUBECONFIG is set that cluster is used and none is started; it then needs images that it can pull (`--image`). What was
started is stopped again, also after an error or Ctrl-C; `--keep` leaves the cluster up for a look around.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path

from demo import report as reporting
from demo import traffic
from demo.cluster import KINDS, Failed, reach
from demo.installing import apply_bases, apply_router, gateway_service, install, load_images, some_cluster
from demo.keys import request_key
from demo.loop import apply_specialists, bad_revision, discover, idle, train_and_roll_out
from demo.prepare import begin_base, build_images, clean, make_traffic
from demo.sending import send_after, send_before
from demo.steps import Options, Run, Step, take


def found_assignments(run_: Run) -> list[tuple[str, str | None]] | None:
    """(true task, cluster found) of every logged call of the first phase.

    The log is sealed; the demo holds its key, as curation does. None where the store is not on this machine.
    """
    from slmfleet.store.segments import read_directory

    runs = sorted((run_.store / "discovery" / "fleet").glob("*/assignments.jsonl"))
    if not runs:
        return None
    cluster = {row["id"]: row["cluster"] for row in traffic.read_lines(runs[0])}
    calls = traffic.read_lines(run_.traffic / "calls.jsonl")
    task = {request_key(call["request"]["messages"]): call["task"] for call in calls}
    identity = (run_.options.work / "log-key").read_text("utf-8").split()[-1]
    found = []
    for line in read_directory(run_.store / "usage" / "fleet", [identity]):
        record = json.loads(line)
        if record["id"] in cluster:
            found.append((task[request_key(record["request"]["messages"])], cluster[record["id"]]))
    return found


def write_report(run_: Run) -> None:
    """Everything that was measured, as a table and as report.json."""
    status = {
        "items": run_.cluster.list(KINDS), "gates": run_.gates, "training_seconds": run_.training_seconds,
        "minutes": run_.minutes, "events": run_.events,
    }  # fmt: skip
    (run_.options.work / "status.json").write_text(json.dumps(status, indent=1), encoding="utf-8")
    rows = [row for path in sorted(run_.results.glob("*.jsonl")) for row in traffic.read_lines(path)]
    facts = json.loads((run_.traffic / "manifest.json").read_text("utf-8"))
    truth = traffic.read_lines(run_.traffic / "truth.jsonl")
    inputs = reporting.inputs_of(
        rows,
        truth,
        status,
        pod_hour_price=run_.options.pod_hour_price,
        wrong_share=facts["wrong_share"],
        assignments=found_assignments(run_),
    )
    built = reporting.build(inputs)
    (run_.options.work / "report.json").write_text(reporting.as_json(built), encoding="utf-8")
    print(reporting.render(built, sys.stdout.isatty()), flush=True)


PREPARE: tuple[Step, ...] = (
    ("clear the last run's files", clean),
    ("build images and environments", build_images),
    ("make the agent's traffic", make_traffic),
    ("begin to pretrain the tiny base", begin_base),
)
LOOP: tuple[Step, ...] = (
    ("load images", load_images),
    ("install the operator", install),
    ("put the gateway in front of the LLM", apply_router),
)
CALLS: tuple[Step, ...] = (
    ("the agent calls the LLM", send_before),
    ("offer the bases, the tiny one when it is trained", apply_bases),
    ("find the tasks in the log", discover),
    ("ask for two specialists", apply_specialists),
    ("dataset, training, gate, shadow, canary", train_and_roll_out),
    ("a bad revision, rolled back", bad_revision),
    ("calls that nothing has learned from", send_after),
    ("idle: the pool goes to zero", idle),
)


def demo(options: Options) -> None:
    """All of it."""
    run_ = Run(options)
    take(run_, PREPARE)
    with contextlib.ExitStack() as stack:
        take(run_, (("start the cluster", lambda r: stack.enter_context(some_cluster(r))),))
        take(run_, LOOP)
        run_.gateway = stack.enter_context(reach(run_.cluster, gateway_service(run_), direct=run_.own_cluster))
        take(run_, CALLS)
        write_report(run_)


def parse(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="demo.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--name", default=Options.name, help="of the development cluster")
    parser.add_argument("--size", choices=traffic.SIZES, default=Options.size)
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--system-prompt", choices=traffic.SETTINGS, default=Options.system_prompt)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end")
    parser.add_argument(
        "--work", type=Path, default=Options.work, help="folder for the run's files; emptied at the start"
    )
    parser.add_argument("--image", action="append", default=[], metavar="NAME=REF", help="for a cluster of yours")
    given = parser.parse_args(arguments)
    images = dict(each.split("=", 1) for each in given.image)
    return Options(
        name=given.name, size=given.size, seed=given.seed, system_prompt=given.system_prompt, keep=given.keep,
        work=given.work.absolute(), images=images,
    )  # fmt: skip


def main() -> None:
    options = parse()
    try:
        demo(options)
    except Failed as failure:
        sys.exit(f"demo: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
