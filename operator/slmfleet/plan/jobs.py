"""The jobs: discover, curate, train, evaluate. Each reads and writes files of the store; its name says its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from slmfleet.api.base import Resources, SecretKey
from slmfleet.api.router import RouterSpec
from slmfleet.api.specialist import Gate, Training
from slmfleet.plan import naming, redaction
from slmfleet.plan.config import Config
from slmfleet.plan.names import labels, owner_reference
from slmfleet.plan.pods import Object, SecretMount, StoreMount, pod_spec, resources

IDENTITY = "/keys/identity"
TERMINATION = [{"name": name, "value": "/dev/termination-log"}
               for name in ("SLMFLEET_TERMINATION_LOG", "SLMTRAIN_TERMINATION_LOG")]


def job(name: str, kind: str, owner: tuple[str, str], component: str, pod: Object, *, retries: int,
        deadline_seconds: int, queue: str | None = None, annotations: Mapping[str, str] | None = None,
        pod_labels: Mapping[str, str] | None = None) -> Object:
    """A Job that runs its pod to completion at most `retries` + 1 times, once Kueue's `queue` admits it.

    Kueue suspends what enters a queue and lets it go on; `suspend` is its field then, and must not be applied here.
    """
    marks = labels(component, kind, owner[0])
    about = {"labels": marks | dict(pod_labels or {}), **({"annotations": dict(annotations)} if annotations else {})}
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "labels": marks | _queued(queue),
                     "ownerReferences": owner_reference(kind, *owner)},
        "spec": {"backoffLimit": retries, "activeDeadlineSeconds": deadline_seconds, "completions": 1,
                 "parallelism": 1,
                 "template": {"metadata": about, "spec": {**pod, "restartPolicy": "Never"}}},
    }


def discover_job(config: Config, name: str, router: tuple[str, str], spec: RouterSpec, run: int,
                 prefix: str, in_use: str | None = None, trained: Mapping[str, int] = MappingProxyType({})) -> Object:
    """Find the tasks in the log of one Router (S2, S3). `in_use`: path of the classifier to measure beside the new;
    `trained`: by TaskCluster, the run that its Specialist learned from."""
    out = f"{config.store_mount}/discovery/{router[0]}"
    args = ["discover", "--records", f"{config.store_mount}/usage/{router[0]}", "--out", f"{out}/{run:04d}",
            "--identity", IDENTITY, "--publish", f"{config.store_mount}/router",
            "--min-share", str(spec.discovery.minimum_share_percent / 100),
            "--foreign-rate", str(spec.discovery.foreign_call_percent / 100),
            "--missing-ok"]  # what somebody removed from the store must not stop discovery for good
    if run > 1:
        args += ["--previous", f"{out}/{run - 1:04d}"]
    for task, learned in sorted(trained.items()):
        args += ["--trained", f"{task}={out}/{learned:04d}"]
    if in_use is not None:
        args += ["--in-use", f"{config.store_mount}/{in_use}"]
    mounts = [StoreMount(f"usage/{router[0]}"), StoreMount(f"discovery/{router[0]}", read_only=False),
              StoreMount("router", read_only=False)]
    rules, asked = redaction.told(spec.redaction), naming.told(spec)
    pod = _curation_pod(config, [*args, *asked.options], spec.discovery.resources, mounts, prefix,
                        spec.capture.identity_secret_ref, rules, asked.env)
    return job(name, "Router", router, "discovery", pod, retries=1, deadline_seconds=3600,
               annotations=rules.annotations, pod_labels=asked.labels)


def clean_job(config: Config, name: str, router: tuple[str, str], folders: Sequence[str], prefix: str) -> Object:
    """Remove folders that no Specialist needs. It sees only those kinds, and no key."""
    args = ["clean", "--store", config.store_mount, *(part for folder in folders for part in ("--folder", folder))]
    mounts = [StoreMount(kind, read_only=False) for kind in sorted({folder.partition("/")[0] for folder in folders})]
    pod = _curation_pod(config, args, Resources(cpu="100m", memory="256Mi"), mounts, prefix, None)
    return job(name, "Router", router, "cleanup", pod, retries=1, deadline_seconds=3600)


def curate_job(config: Config, name: str, specialist: tuple[str, str], router: str, spec: RouterSpec, run: int,
               cluster: str, out: str, minimum: int, heldout_percent: float, prefix: str) -> Object:
    """Make the dataset of one task (S2)."""
    args = ["curate", "--records", f"{config.store_mount}/usage/{router}",
            "--clusters", f"{config.store_mount}/discovery/{router}/{run:04d}", "--cluster", cluster,
            "--out", f"{config.store_mount}/{out}", "--identity", IDENTITY, "--min-examples", str(minimum),
            "--heldout-share", str(heldout_percent / 100)]
    mounts = [StoreMount(f"usage/{router}"), StoreMount(f"discovery/{router}"),
              StoreMount("datasets", read_only=False)]
    rules = redaction.told(spec.redaction)
    pod = _curation_pod(config, args, spec.discovery.resources, mounts, prefix, spec.capture.identity_secret_ref, rules)
    return job(name, "Specialist", specialist, "curation", pod, retries=1, deadline_seconds=3600,
               annotations=rules.annotations)


def _curation_pod(config: Config, args: Sequence[str], wanted: Resources, mounts: Sequence[StoreMount], prefix: str,
                  identity: SecretKey | None, rules: redaction.Told | None = None,
                  env: Sequence[Object] = ()) -> Object:
    rules = rules or redaction.Told()
    container = {"name": "job", "image": config.images.slmfleet, "args": [*args, *rules.options],
                 "resources": resources(wanted), "env": [*TERMINATION, *env]}
    secrets = [SecretMount(identity.name, "/keys", ((identity.key, "identity"),))] if identity else []
    return pod_spec(config, container, account="slmfleet-job", prefix=prefix, store=mounts,
                    secrets=[*secrets, *rules.secrets], annotations=(redaction.RULES, rules.files))


def training_pod(config: Config, dataset: str, base: str, out: str, scratch: str, training: Training,
                 prefix: str) -> Object:
    """The pod in which Ray starts and trains (S5)."""
    at = config.store_mount
    alpha = int(training.alpha) if training.alpha == int(training.alpha) else training.alpha
    settings = {"rank": training.rank, "alpha": alpha, "learning_rate": training.learning_rate,
                "max_steps": training.steps, "batch_size": training.batch_size}
    chosen = json.dumps({key: value for key, value in settings.items() if value is not None}, sort_keys=True)
    args = ["-m", "slmtrain.train", "--dataset", f"{at}/{dataset}", "--base", _base_path(config, base),
            "--method", training.method.lower(), "--out", f"{at}/{out}", "--workers", str(training.workers),
            "--checkpoints", f"{at}/{scratch}/checkpoints", "--progress", f"{at}/{scratch}/progress.json",
            "--seed", str(training.seed), "--config", chosen]
    mounts = [StoreMount("datasets"), StoreMount("bases"), StoreMount("artifacts", read_only=False),
              StoreMount("training", read_only=False)]
    return _trainer_pod(config, args, training.resources, mounts, prefix)


def evaluation_pod(config: Config, dataset: str, base: str, model: str, out: str, gate: Gate, metric: str,
                   wanted: Resources, prefix: str) -> Object:
    """The gate: the candidate on conversations that nothing has seen."""
    at = config.store_mount
    args = ["-m", "slmtrain.evaluate", "--dataset", f"{at}/{dataset}", "--model", f"{at}/{model}",
            "--base", _base_path(config, base), "--out", f"{at}/{out}", "--metric", metric,
            "--floor", str(gate.floor), "--margin", str(gate.margin), "--confidence", str(gate.confidence),
            "--require-reports"]
    args += ["--require-non-inferiority"] if gate.require_non_inferiority else []
    args += ["--slice-floor", str(gate.slice_floor)] if gate.slice_floor is not None else []
    args += ["--max-latency", str(gate.maximum_latency_seconds)] if gate.maximum_latency_seconds is not None else []
    mounts = [StoreMount("datasets"), StoreMount("bases"), StoreMount("artifacts"),
              StoreMount("evaluations", read_only=False)]
    return _trainer_pod(config, args, wanted, mounts, prefix)


def _base_path(config: Config, base: str) -> str:
    """A folder of the store, or a Hugging Face id as it is."""
    return f"{config.store_mount}/{base}" if base.startswith("bases/") else base


def _trainer_pod(config: Config, args: Sequence[str], wanted: Resources, mounts: Sequence[StoreMount],
                 prefix: str) -> Object:
    container = {"name": "job", "image": config.images.trainer, "command": [config.trainer.python],
                 "args": list(args), "resources": resources(wanted), "env": TERMINATION}
    return pod_spec(config, container, account="slmfleet-job", prefix=prefix, store=mounts,
                    claims=config.trainer.volumes, shared_memory="1Gi")


def ray_job(name: str, kind: str, owner: tuple[str, str], pod: dict[str, Any], training: Training) -> Object:
    """The same pod as the head of a KubeRay RayJob, for clusters where that kind is installed.

    HTTPMode: in K8sJobMode KubeRay makes a submitter pod of its own, which Pod Security `restricted` refuses.
    Kueue takes a RayJob only with `shutdownAfterJobFinishes`, and owns `suspend` of one in a queue (see `job`).
    """
    container = pod["containers"][0]
    entrypoint = " ".join(_quote(part) for part in (*container["command"], *container["args"]))
    head = {key: value for key, value in container.items() if key not in ("command", "args")}
    marks = labels("training", kind, owner[0])
    return {
        "apiVersion": "ray.io/v1", "kind": "RayJob",
        "metadata": {"name": name, "labels": marks | _queued(training.queue),
                     "ownerReferences": owner_reference(kind, *owner)},
        "spec": {
            "entrypoint": entrypoint, "submissionMode": "HTTPMode", "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 3600, "backoffLimit": training.backoff_limit,
            "activeDeadlineSeconds": training.deadline_seconds,
            **({} if training.queue else {"suspend": False}),
            "rayClusterSpec": {"headGroupSpec": {
                "rayStartParams": {"dashboard-host": "0.0.0.0"},
                "template": {"metadata": {"labels": marks},
                             "spec": {**pod, "containers": [{**head, "name": "ray-head"}]}}}},
        },
    }


def _queued(queue: str | None) -> dict[str, str]:
    return {"kueue.x-k8s.io/queue-name": queue} if queue else {}


def _quote(text: str) -> str:
    """As a POSIX shell word."""
    return text if text and all(c.isalnum() or c in "-_./:=@" for c in text) else "'" + text.replace("'", "'\\''") + "'"
