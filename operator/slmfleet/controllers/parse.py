"""Objects of the API server as typed values: parsed once, here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from slmfleet.api.basemodel import BaseModelSpec, BaseModelStatus
from slmfleet.api.router import RouterSpec, RouterStatus
from slmfleet.api.specialist import SpecialistSpec, SpecialistStatus
from slmfleet.api.taskcluster import TaskClusterSpec, TaskClusterStatus
from slmfleet.plan.facts import BaseObject, ClusterObject, DenyList, JobFact, Meta, RouterObject, SpecialistObject
from slmfleet.plan.names import MANAGED
from slmfleet.wire.denylist import denied
from slmfleet.wire.jobs import JobFailure

Raw = Mapping[str, Any]


def meta(obj: Raw) -> Meta:
    found = obj["metadata"]
    managed = MANAGED.items() <= found.get("labels", {}).items()
    return Meta(name=found["name"], uid=found["uid"], generation=found.get("generation", 0), managed=managed)


def router(obj: Raw) -> RouterObject:
    return RouterObject(meta(obj), RouterSpec.model_validate(obj["spec"]),
                        RouterStatus.model_validate(obj.get("status") or {}))


def cluster(obj: Raw) -> ClusterObject:
    return ClusterObject(meta(obj), TaskClusterSpec.model_validate(obj["spec"]),
                         TaskClusterStatus.model_validate(obj.get("status") or {}))


def specialist(obj: Raw) -> SpecialistObject:
    return SpecialistObject(meta(obj), SpecialistSpec.model_validate(obj["spec"]),
                            SpecialistStatus.model_validate(obj.get("status") or {}))


def base(obj: Raw) -> BaseObject:
    return BaseObject(meta(obj), BaseModelSpec.model_validate(obj["spec"]),
                      BaseModelStatus.model_validate(obj.get("status") or {}))


def deny_list(encoded: str, key: str) -> DenyList | None:
    """A Secret's deny list (`wire.denylist`), counted. None where it is no UTF-8 text."""
    value = base64.b64decode(encoded)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    mark = hmac.new(key.encode(), b"deny-list\0" + value, hashlib.sha256).hexdigest()[:16]
    return DenyList(sum(1 for _ in denied(text)), mark)


def job_fact(job: Raw, pods: list[Raw]) -> JobFact:
    """State of a Job or RayJob, with the reason its pod left behind."""
    status = job.get("status") or {}
    if job["kind"] == "RayJob":
        return _ray_job_fact(status)
    done = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}
    state = _state(done)
    ended = next((c.get("lastTransitionTime") for c in status.get("conditions") or []
                  if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)
    failure = _failure(job["metadata"]["name"], status, pods) if state == "Failed" else None
    return JobFact(state=state, failure=failure, started=_time(status.get("startTime")), ended=_time(ended))


def _state(done: set[str]) -> Literal["Running", "Succeeded", "Failed"]:
    if done & {"Complete", "SuccessCriteriaMet"}:
        return "Succeeded"
    return "Failed" if done & {"Failed", "FailureTarget"} else "Running"


def _ray_job_fact(status: Raw) -> JobFact:
    found = status.get("jobStatus")
    if found == "SUCCEEDED":
        return JobFact("Succeeded")
    if found in ("FAILED", "STOPPED") or status.get("jobDeploymentStatus") == "Failed":
        return JobFact("Failed", JobFailure(reason=str(status.get("reason") or "RayJobFailed"),
                                            message=str(status.get("message") or "the RayJob failed")))
    return JobFact("Running")


def _failure(job: str, status: Raw, pods: list[Raw]) -> JobFailure:
    for pod in sorted(pods, key=lambda p: str(p["metadata"].get("creationTimestamp")), reverse=True):
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = container.get("state", {}).get("terminated")
            if ended is None or ended.get("exitCode") == 0:
                continue
            return _failure_of(job, pod["metadata"]["name"], ended)
    told = next((c.get("message") for c in status.get("conditions") or [] if c["type"] == "Failed"), None)
    return JobFailure(reason="JobFailed", message=f"job {job}: {told or 'failed'}")


def _failure_of(job: str, pod: str, ended: Raw) -> JobFailure:
    if ended.get("reason") == "OOMKilled":
        return JobFailure(reason="OutOfMemory", retry=False,
                          message=f"job {job}: its pod ran out of memory; raise the memory in its resources")
    text = ended.get("message") or ""
    try:
        return JobFailure.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        last = text.strip().splitlines()[-1][:500] if text.strip() else f"exit code {ended.get('exitCode')}"
        return JobFailure(reason="JobFailed", message=f"job {job}, pod {pod}: {last}")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def pod_ready(pod: Raw) -> bool:
    """Ready, and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    found = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found)


def pod_problem(pods: list[Raw]) -> str | None:
    """Why pods do not come up, in the kubelet's words."""
    for pod in pods:
        status = pod.get("status") or {}
        for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            waiting = container.get("state", {}).get("waiting") or {}
            last = container.get("lastState", {}).get("terminated") or {}
            if last.get("reason") == "OOMKilled":
                return f"pod {pod['metadata']['name']} ran out of memory; raise spec.pool.resources.memory"
            if waiting.get("reason") in ("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName",
                                         "CreateContainerConfigError", "ErrImageNeverPull"):
                told = last.get("message") or waiting.get("message") or ""
                line = told.strip().splitlines()[-1][:300] if told.strip() else ""
                return f"pod {pod['metadata']['name']}: {waiting['reason']}: {line}"
        for condition in status.get("conditions") or []:
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"pod {pod['metadata']['name']} cannot be scheduled: {condition.get('message', '')}"
    return None
