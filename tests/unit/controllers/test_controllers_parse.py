"""Objects of the API server as facts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from slmfleet.controllers import parse
from slmfleet.wire.denylist import denied, listed


def job(*done: str, kind: str = "Job", **status: Any) -> dict[str, Any]:
    listed = [{"type": t, "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z", "message": f"{t} it is"}
              for t in done]  # fmt: skip
    return {"kind": kind, "metadata": {"name": "j"}, "status": {"conditions": listed, **status}}


def pod(name: str = "j-x", made: str = "2026-01-02T00:00:00Z", conditions: Any = (), phase: str = "Failed",
        waiting: Any = None, last: Any = None, **ended: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"terminated": ended} if ended else {}
    state |= {"waiting": waiting} if waiting else {}
    container = {"name": "job", "state": state, "lastState": {"terminated": last} if last else {}}
    return {"metadata": {"name": name, "creationTimestamp": made},
            "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": [container]}}


def test_a_deny_list_is_counted_and_its_digest_needs_the_key() -> None:
    text = base64.b64encode("# ours\nFalcon\tproject\n\r\nMüller & Söhne\n".encode()).decode()
    found = parse.deny_list(text, "key")
    assert found is not None and found.values == 2
    assert found == parse.deny_list(text, "key")
    assert found.digest != parse.deny_list(text, "another").digest  # type: ignore[union-attr]
    assert parse.deny_list(base64.b64encode(b"\xff").decode(), "key") is None


COUNTS = {"": 0, "x": 1, "Falcon\n": 1, "\tproject\n": 0, "#\tx\n # no\n": 0, "a\t\n\tb\n c d \tkind \r\n": 2,
          "one\n\n\ntwo\tproject": 2}  # fmt: skip


@pytest.mark.parametrize("text", COUNTS)
def test_as_many_values_are_counted_as_a_job_redacts(text: str) -> None:
    """A line of a kind without a value once was one for the operator, and none for the job."""
    found = parse.deny_list(base64.b64encode(text.encode()).decode(), "key")
    assert found is not None and found.values == len(list(denied(text))) == COUNTS[text]


def test_what_is_written_is_what_is_read() -> None:
    entries = [("Falcon Nine", "project"), ("Müller & Söhne", "deny_list"), ("a, b", "x_1")]
    assert [(entry.value, entry.kind) for entry in denied(listed(entries))] == entries
    assert [entry.line for entry in denied("# ours\n\nFalcon\n")] == [3]


STATES: list[tuple[dict[str, Any], str]] = [
    (job(), "Running"),
    ({"kind": "Job", "metadata": {"name": "j"}}, "Running"),
    (job("SuccessCriteriaMet"), "Succeeded"),
    (job("SuccessCriteriaMet", "Complete"), "Succeeded"),
    (job("FailureTarget"), "Failed"),
    (job("FailureTarget", "Failed"), "Failed"),
    (job("Suspended"), "Running"),
    (job(kind="RayJob"), "Running"),
    (job(kind="RayJob", jobStatus="RUNNING", jobDeploymentStatus="Running"), "Running"),
    (job(kind="RayJob", jobStatus="SUCCEEDED", jobDeploymentStatus="Complete"), "Succeeded"),
    (job(kind="RayJob", jobStatus="FAILED"), "Failed"),
    (job(kind="RayJob", jobStatus="STOPPED"), "Failed"),
    (job(kind="RayJob", jobStatus="", jobDeploymentStatus="Failed", reason="DeadlineExceeded"), "Failed"),
]


@pytest.mark.parametrize("found, state", STATES)
def test_a_jobs_state_is_read_from_its_conditions(found: dict[str, Any], state: str) -> None:
    assert parse.job_fact(found, []).state == state


OWN = {"reason": "TooFewExamples", "message": "12 of 500"}
FAILURES: list[tuple[str, list[dict[str, Any]], str, str]] = [
    ("its own words", [pod(exitCode=1, message=json.dumps(OWN))], "TooFewExamples", "12 of 500"),
    ("out of memory", [pod(exitCode=137, reason="OOMKilled")], "OutOfMemory", "raise the memory"),
    ("a traceback", [pod(exitCode=1, message="Traceback\n  x\nValueError: bad digest\n")], "JobFailed",
     "pod j-x: ValueError: bad digest"),
    ("an object of another shape", [pod(exitCode=1, message='{"a": 1}')], "JobFailed", '{"a": 1}'),
    ("silence", [pod(exitCode=3)], "JobFailed", "exit code 3"),
    ("no pod left", [], "JobFailed", "Failed it is"),
    ("the newest pod counts", [pod("old", "2026-01-01T00:00:00Z", exitCode=1, message="old"),
                               pod("new", "2026-01-03T00:00:00Z", exitCode=137, reason="OOMKilled")],
     "OutOfMemory", "raise the memory"),
    ("a pod that went well is no reason", [pod(exitCode=0, message="fine")], "JobFailed", "Failed it is"),
]  # fmt: skip


@pytest.mark.parametrize("pods, reason, told", [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_a_failed_job_says_what_its_pod_said(pods: list[dict[str, Any]], reason: str, told: str) -> None:
    failure = parse.job_fact(job("Failed"), pods).failure
    assert failure is not None
    assert failure.reason == reason
    assert told in failure.message


def test_a_running_job_has_no_failure_yet() -> None:
    fact = parse.job_fact(job(startTime="2026-01-02T03:00:00Z"), [pod(exitCode=1, message="first try")])
    assert fact.failure is None
    assert fact.ended is None
    assert fact.started is not None


def test_a_failed_rayjob_passes_kuberays_words_on() -> None:
    failed = job(kind="RayJob", jobStatus="FAILED", reason="AppFailed", message="Job entrypoint failed")
    failure = parse.job_fact(failed, []).failure
    assert failure is not None and (failure.reason, failure.message) == ("AppFailed", "Job entrypoint failed")


READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize("found, ready", [
    (pod(conditions=[READY]), True),
    (pod(conditions=[{**READY, "status": "False"}]), False),
    (pod(), False),
    ({"metadata": {"deletionTimestamp": "x"}, "status": {"conditions": [READY]}}, False),
    ({"metadata": {}}, False),
])  # fmt: skip
def test_a_pod_that_is_going_is_not_ready(found: dict[str, Any], ready: bool) -> None:
    assert parse.pod_ready(found) == ready


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory"}
PROBLEMS: list[tuple[dict[str, Any], str | None]] = [
    (pod(waiting={"reason": "ContainerCreating"}), None),
    (pod(waiting={"reason": "ErrImagePull", "message": "not found"}), "pod j-x: ErrImagePull: not found"),
    (pod(waiting={"reason": "CrashLoopBackOff", "message": "back-off"}, last={"message": "x\nKeyError: 'a'"}),
     "pod j-x: CrashLoopBackOff: KeyError: 'a'"),
    (pod(last={"reason": "OOMKilled"}), "pod j-x ran out of memory; raise spec.pool.resources.memory"),
    (pod(conditions=[UNSCHEDULED]), "pod j-x cannot be scheduled: 0/1 nodes: Insufficient memory"),
]


@pytest.mark.parametrize("found, problem", PROBLEMS)
def test_a_pod_that_does_not_come_up_says_why(found: dict[str, Any], problem: str | None) -> None:
    assert parse.pod_problem([found]) == problem
