"""The whole loop, in the order in which a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import look
import pytest
from demo import cluster, loop, prepare, sending
from demo.cluster import ROOT, Failed, until
from demo.manifests import fill
from demo.steps import Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3000)]


def test_every_call_reaches_the_llm_and_the_log_cannot_be_read_without_the_key(line: Run) -> None:
    sending.send_before(line)
    rows = look.results(line, "before")
    assert rows
    assert look.errors(rows) == []
    assert {row["tier"] for row in rows} == {"llm"}
    until("all calls in the log", 60, lambda: look.signals(line)["capture"]["records"] >= len(rows), every=1)
    sealed = b"".join(path.read_bytes() for path in (line.store / "usage").rglob("*.seg"))
    assert len(sealed) > 10_000
    assert b"intent" not in sealed
    assert look.signals(line)["capture"]["dropped"] == 0


def test_the_two_tasks_are_found_without_being_told(line: Run) -> None:
    loop.discover(line)
    voice, banking = (line.cluster.get("taskcluster", line.clusters[name]) for name in loop.SPECIALISTS)
    assert voice is not None and banking is not None
    assert voice["status"]["labels"] == 7
    assert banking["status"]["labels"] >= 60
    assert voice["spec"]["outputFormat"]["type"] == "json"
    assert all(example["prompt"] for example in voice["status"]["examples"])


def test_bases_are_refused_for_licence_and_memory_with_the_reason_in_status(line: Run) -> None:
    loop.apply_specialists(line)

    def ranked() -> dict[str, dict[str, object]]:
        found = look.status(line, "taskcluster", line.clusters["voice"]).get("candidates", [])
        by_name = {each["name"]: each for each in found}
        return by_name if by_name and not by_name["too-big"]["suitable"] else {}

    candidates = until("candidates with reasons", 120, ranked, every=1)
    assert candidates["tiny"]["suitable"]
    assert not candidates["tiny-nc"]["suitable"]
    assert "licence CC-BY-NC-4.0" in str(candidates["tiny-nc"]["reason"])
    assert "40Gi" in str(candidates["too-big"]["reason"])


def test_a_bad_manifest_is_refused_by_the_name_of_its_field(line: Run) -> None:
    wrong = loop.specialist(line, "voice").replace("[10, 50, 100]", "[10, 50]")
    with pytest.raises(Failed, match=r"(?s)rollout.*100"):
        line.cluster.apply(wrong)


def test_a_killed_training_worker_is_replaced_and_resumes_from_its_checkpoint(line: Run) -> None:
    pod = until("a training pod with some steps done", 900, lambda: _training_pod(line), every=0.5)
    killed = look.exec_in(line, pod, "bash", "-c", "kill -9 $(pgrep -f 'RayTrainWorker' | head -n 1)")
    assert killed.returncode == 0, killed.stderr
    name = (line.cluster.get("pod", pod) or {})["metadata"]["labels"]["app.kubernetes.io/instance"]
    until("the training's end", 1200,
          lambda: look.condition(line, "specialist", name, "Trained").get("status") == "True")
    training = look.status(line, "specialist", name)["training"]
    result = next((line.store / "artifacts").glob(f"{name}-{training['key']}/result.json"))
    facts = look.store_json(line, str(result.relative_to(line.store)))
    assert facts["restarts"] >= 1
    assert facts["resumed_from_step"] > 0
    assert training["rayJob"] == facts["ray_job_id"]
    assert training["rayJob"]


def _training_pod(line: Run) -> str | None:
    """The pod of a training that is well under way, by the progress that it writes."""
    for file in (line.store / "training").glob("*/progress.json"):
        try:
            percent = json.loads(file.read_text("utf-8"))["percent"]
        except (OSError, ValueError):
            continue
        name, _, key = file.parent.name.rpartition("-")
        if 25 <= percent <= 80:  # past the first checkpoint
            for pod in line.cluster.list("pods", f"job-name=train-{name}-{key}"):
                if pod["status"].get("phase") == "Running":
                    return str(pod["metadata"]["name"])
    return None


def test_both_pass_their_gate_and_move_by_steps_to_all_traffic_without_an_error(line: Run) -> None:
    watch = _Shares()

    def done(items: dict[str, dict[str, object]]) -> bool:
        watch.see(line)
        return all(map(loop.has_ended, items.values()))

    loop.follow(line, 1500, lambda items: any(map(loop.wants_traffic, items.values())), "a gate")
    with sending.rollout_traffic(line):
        loop.follow(line, 1500, done, "both rollouts")
    for name in loop.SPECIALISTS:
        found = look.status(line, "specialist", name)
        assert loop.stage_of({"status": found}) == "Promoted", found
        assert found["weightPercent"] == 100
        assert found["stable"]["evaluation"]["verdict"] == "passed"
        assert found["stable"]["shadow"]["verdict"] == "promote"
        assert found["stable"]["dataset"].startswith("sha256:")
        assert found["stable"]["rayJob"]
    rows = look.results(line, "rollout")
    assert look.errors(rows) == []
    assert {row["tier"] for row in rows if row["task"] in ("metagpt", "agbenchmark")} == {"llm"}
    steps = watch.steps(rows)
    assert any(n >= 20 for _, n in steps.values()), steps
    print(f"candidate's conversations by specialist and weight: {steps}")
    for (name, weight), (candidate, n) in steps.items():
        assert look.within_binomial(candidate, n, weight / 100), f"{name} at {weight} %: {candidate} of {n}"


class _Shares:
    """What the client saw while a weight stood: which rows of its results, from the second look at that weight on, so
    that no call that was decided before it is among them."""

    def __init__(self) -> None:
        self._looked: set[tuple[str, int]] = set()
        self._rows: dict[tuple[str, int], tuple[int, int]] = {}

    def see(self, line: Run) -> None:
        count = len(look.results(line, "rollout"))
        for name in loop.SPECIALISTS:
            status = look.status(line, "specialist", name)
            weight = (status.get("rollout") or {}).get("weightPercent", 0)
            if "candidate" not in status or not 0 < weight < 100:
                continue
            if (name, weight) not in self._looked:
                self._looked.add((name, weight))
                continue
            first, _ = self._rows.setdefault((name, weight), (count, count))
            self._rows[(name, weight)] = (first, count)

    def steps(self, rows: look.Rows) -> dict[tuple[str, int], tuple[int, int]]:
        """By specialist and weight: conversations that the candidate answered, of how many. A conversation is the unit
        that an arm is drawn for; its calls go together."""
        found = {}
        for (name, weight), (first, last) in self._rows.items():
            arms = {row["conversation"]: row["arm"] for row in rows[first:last] if row["specialist"] == name}
            found[(name, weight)] = (sum(arm == "candidate" for arm in arms.values()), len(arms))
        return found


def test_kubectl_tells_the_story(line: Run) -> None:
    line.cluster.kubectl("wait", "--for=condition=Ready", "specialist/voice", "--timeout=10s")
    shown = line.cluster.kubectl("get", "slm")
    assert "specialist.slmfleet.dev/voice" in shown and "Promoted" in shown
    for kind in ("routers", "taskclusters", "specialists", "basemodels"):
        assert max(len(row) for row in line.cluster.kubectl("get", kind).splitlines()) <= 120
    told = subprocess.run(
        [sys.executable, "-m", "slmfleet.cli", "status", "voice", "-n", line.cluster.namespace],
        env={**line.cluster.env, "PYTHONPATH": str(ROOT / "operator"), "SLMFLEET_PROG": "kubectl slm"},
        capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    for word in ("cluster", "dataset", "artifact", "gate", "shadow", "canary", "100 %", "Promoted"):
        assert word in told.stdout


def test_nothing_that_was_applied_differs_from_what_is_there(line: Run) -> None:
    for name in loop.SPECIALISTS:
        assert look.diff(line, loop.specialist(line, name)) == ""
    bases = fill("basemodels", parameters=line.base["parameters"], context_tokens=prepare.BASE_CONTEXT_TOKENS,
                 idle_seconds=line.options.idle_seconds)
    assert look.diff(line, bases) == ""


def test_one_server_process_answers_for_both(line: Run) -> None:
    pods = look.pool_pods(line)
    both = [p for p in pods if sum(n > 0 for a, n in look.served_by_adapter(p["status"]["podIP"]).items()
                                   if a.startswith(("voice-", "banking-"))) == 2]
    assert both, {p["metadata"]["name"]: look.served_by_adapter(p["status"]["podIP"]) for p in pods}


def test_a_bad_revision_is_rolled_back_and_no_client_sees_an_error(line: Run) -> None:
    good = look.status(line, "specialist", "voice")["stable"]["name"]
    line.outcomes["voice"] = "Promoted"
    loop.bad_revision(line)
    status = look.status(line, "specialist", "voice")
    assert status["stable"]["name"] == good
    assert "RolledBack" in [entry["outcome"] for entry in status["history"]]
    rows = look.results(line, "bad")
    assert rows
    assert look.errors(rows) == []


def test_the_pool_goes_from_zero_to_two_and_back_with_the_calls(line: Run) -> None:
    pool = lambda: look.status(line, "basemodel", "tiny")  # noqa: E731
    until("the pool at zero", 420, lambda: pool().get("replicas") == 0 and not look.pool_pods(line))
    sending.send(line, "cold", "--phase", "later", "--round", "3", "--tasks", "snips", "--limit", "3")
    cold = look.results(line, "cold")
    assert look.errors(cold) == []
    assert {row["tier"] for row in cold} == {"llm"}, "a call that meets a cold pool goes to the next tier at once"
    until("one server", 300, lambda: pool().get("readyReplicas") == 1, every=1)
    with cluster.background(sending.agent_command(line, "load", "--phase", "later", "--round", "3", "--tasks", "snips",
                                            "banking", "--repeat", "200", "--max-rate", "400"),
                         env=sending.agent_env(), stdout=subprocess.DEVNULL):
        until("two servers with both adapters", 420, lambda: [
            len(e["adapters"]) for e in pool().get("endpoints", []) if e["ready"]] == [2, 2], every=1)
    with cluster.background(sending.agent_command(line, "light", "--phase", "later", "--round", "3", "--tasks", "snips",
                                            "--repeat", "200", "--max-rate", "2"),
                         env=sending.agent_env(), stdout=subprocess.DEVNULL):
        until("one server again", 420, lambda: pool().get("replicas") == 1 and len(look.pool_pods(line)) == 1)
    until("no server", 420, lambda: pool().get("replicas") == 0 and not look.pool_pods(line))
    for stage in ("load", "light"):
        assert look.errors(look.results(line, stage)) == []
    moves = [(e["previous"], e["replicas"]) for e in reversed(pool()["scalingHistory"])][-4:]
    assert moves == [(0, 1), (1, 2), (2, 1), (1, 0)]


def test_a_killed_operator_picks_up_where_it_was(line: Run) -> None:
    names = [job["metadata"]["uid"] for job in line.cluster.list("jobs")]
    before = {n: look.status(line, "specialist", n)["stable"]["artifact"] for n in loop.SPECIALISTS}
    line.cluster.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force")
    line.cluster.kubectl("rollout", "status", "deployment/slmfleet-operator", "--timeout=120s", timeout=150)
    time.sleep(20)
    assert [job["metadata"]["uid"] for job in line.cluster.list("jobs")] == names
    assert {n: look.status(line, "specialist", n)["stable"]["artifact"] for n in loop.SPECIALISTS} == before


def test_a_container_that_is_told_to_end_ends(line: Run) -> None:
    """The kernel ignores SIGTERM for a container's first process unless that asks for it: a pod would take all of its
    grace period to go."""
    pod = line.cluster.list("pods", "app.kubernetes.io/component=gateway")[0]["metadata"]["name"]
    line.cluster.kubectl("exec", pod, "--container=routes", "--", "/opt/slmfleet/venv/bin/python", "-c",
                         "import os, signal; os.kill(1, signal.SIGTERM)")

    def last_end() -> dict[str, object] | None:
        states = (line.cluster.get("pod", pod) or {})["status"]["initContainerStatuses"]
        watcher = next(each for each in states if each["name"] == "routes")
        ended: dict[str, object] | None = watcher["lastState"].get("terminated")
        return ended

    try:
        ended = until("the end of the route table's watcher", 180, last_end)
    except Failed as error:
        said = line.cluster.kubectl("logs", pod, "--container=routes", "--tail=20")
        states = (line.cluster.get("pod", pod) or {})["status"]["initContainerStatuses"]
        raise AssertionError(f"{error}\n{said}\n{states}") from error
    assert ended["exitCode"] == 128 + 15
    line.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=120s", timeout=150)


def test_no_pod_of_ours_breaks_pod_security_restricted(line: Run) -> None:
    space = line.cluster.get("namespace", line.cluster.namespace) or {}
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    refused = [e for e in line.cluster.list("events") if "violates PodSecurity" in (e.get("message") or "")]
    assert refused == []
