"""The cluster, the operator on it, and the gateway in front of the LLM's stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from demo.cluster import ROOT, Cluster, Failed, devcluster, development_cluster, run
from demo.manifests import fill
from demo.prepare import BASE_CONTEXT_TOKENS, ensure_environment, finish_base, give_up_base, open_up
from demo.steps import Run


@contextlib.contextmanager
def some_cluster(run_: Run) -> Iterator[None]:
    """The user's own where KUBECONFIG names one, else a development cluster for the time of the demo."""
    try:
        with _some_cluster(run_):
            yield
    finally:
        give_up_base(run_)


@contextlib.contextmanager
def _some_cluster(run_: Run) -> Iterator[None]:
    options = run_.options
    if os.environ.get("KUBECONFIG"):
        if not options.images:
            raise Failed("KUBECONFIG is set: name images that this cluster can pull (self-contained ones), as in "
                         "--image slmfleet=REF --image trainer=REF --image pool=REF, or unset it")  # fmt: skip
        run_.own_cluster = False
        run_._cluster = Cluster(options.namespace, Path(os.environ["KUBECONFIG"]))
        yield
        return
    ensure_environment(run_, "train")
    run_.store.mkdir(parents=True, exist_ok=True)
    open_up(run_.store)
    with development_cluster(options.name, options.namespace, run_.volumes(), options.keep,
                             options.audit) as cluster:
        run_._cluster = cluster
        yield


def load_images(run_: Run) -> None:
    if run_.archives and run_.own_cluster:
        devcluster("load", *run_.archives, "--name", run_.options.name, timeout=900)


def install(run_: Run, flags: tuple[str, ...] = ()) -> None:
    """Namespace with Pod Security enforced, claims, the log's key, and the chart."""
    cluster, options = run_.cluster, run_.options
    cluster.apply(fill("namespace", namespace=options.namespace))
    if run_.own_cluster:
        cluster.apply(fill("claims"))
    else:
        fill_claims(run_)
    make_log_key(run_)
    values = fill(
        "values", image=run_.images["slmfleet"], trainer_image=run_.images["trainer"],
        pool_image=run_.images["pool"], trainer_volumes=mounted(run_, "train"), pool_volumes=mounted(run_, "serve"),
    )  # fmt: skip
    cluster.helm("upgrade", "--install", "slmfleet", str(ROOT / "charts" / "slmfleet"), "--values", "-", "--wait",
                 "--timeout", "3m", *flags, given=values)  # fmt: skip
    run_.say(cluster.kubectl("get", "deployments").strip().replace("\n", "\n   "))


def mounted(run_: Run, environment: str) -> list[dict[str, str]]:
    """The heavy environment as a claim; on a user's cluster it is in the image."""
    return [{"claimName": f"env-{environment}", "mountPath": "/opt/slmfleet/env"}] if run_.own_cluster else []


def fill_claims(run_: Run) -> None:
    """On a user's cluster: claims of its default storage class, filled through a pod."""
    cluster = run_.cluster
    finish_base(run_)
    cluster.apply(fill("claims-default", image=run_.images["slmfleet"]))
    cluster.wait("pod/loader", "Ready", 180)
    cluster.copy(run_.store, "loader", "/store")
    cluster.copy(run_.traffic.parent, "loader", "/demo")
    cluster.kubectl("delete", "pod", "loader", "--wait")


def make_log_key(run_: Run) -> None:
    """The private half goes into a Secret that curation alone mounts; the public half into the Router."""
    identity = run_.options.work / "log-key"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    if not identity.exists():
        run([sys.executable, "-m", "slmfleet.cli", "keys", "--out", identity], what="slmfleet keys", env=env)
    secret = run_.cluster.kubectl(
        "create",
        "secret",
        "generic",
        "log-key",
        f"--from-file=identity={identity}",
        "--dry-run=client",
        "--output=yaml",
    )
    run_.cluster.apply(secret)


def recipient(run_: Run) -> str:
    """age public key of the log, as `slmfleet keys` noted it."""
    for line in (run_.options.work / "log-key").read_text("utf-8").splitlines():
        if line.startswith("# recipient: "):
            return line.removeprefix("# recipient: ")
    raise Failed("the log's key has no recipient line; make it again with `slmfleet keys`")


def apply_router(run_: Run) -> None:
    """The LLM's stand-in, and the gateway in front of it."""
    apply_llm(run_)
    run_.cluster.apply(
        fill("router", namespace=run_.options.namespace, recipient=recipient(run_), minimum_calls=train_calls(run_))
    )
    await_router(run_)


def await_router(run_: Run) -> None:
    run_.cluster.kubectl("rollout", "status", "deployment/replay-llm", "--timeout=120s", timeout=150)
    run_.cluster.wait("router/fleet", "Ready", 180)


def apply_llm(run_: Run) -> None:
    """The LLM's stand-in."""
    run_.cluster.apply(
        fill("replay-llm", image=run_.images["slmfleet"], latency_scale=str(run_.options.latency_scale))
    )


def apply_bases(run_: Run) -> None:
    """Three base models, of which only the tiny one fits."""
    finish_base(run_)
    run_.cluster.apply(fill("basemodels", parameters=run_.base["parameters"], context_tokens=BASE_CONTEXT_TOKENS,
                            idle_seconds=run_.options.idle_seconds))  # fmt: skip


def train_calls(run_: Run) -> int:
    """Discovery runs once the log has (nearly) all of the first phase; some calls may be sampled out or broken."""
    facts = json.loads((run_.traffic / "manifest.json").read_text("utf-8"))
    return int(0.98 * sum(row["calls"] for row in facts["calls"] if row["phase"] == "train"))


def gateway_service(run_: Run) -> str:
    return "gateway-fleet"
