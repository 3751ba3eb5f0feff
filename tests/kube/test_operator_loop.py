"""The real operator process against a real API server: from a Router to a candidate, killed on the way.

There is no kubelet and no controller: the test plays them. It marks claims as bound and gateways as ready, answers for
a gateway's /signals, and leaves in the store what each job would have left. Not covered: pods that really run (e2e).
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import Api, Refused
from manifests import RECIPIENT, changed, manifest
from pydantic import BaseModel as Message

from slmfleet.wire.discovery import ClustersFile, DiscoveryResult, FoundCluster, Signature
from slmfleet.wire.jobs import CurationResult, EvaluationResult, JobFailure, TrainingProgress, TrainingResult
from slmfleet.wire.routes import OutputFormat
from slmfleet.wire.signals import CaptureSignals, GatewaySignals

ROOT = Path(__file__).parents[2]
DATASET, ARTIFACT, BASE_DIGEST = ("sha256:" + digits * 32 for digits in ("da", "ad", "ba"))
CURATED = CurationResult(dataset_digest=DATASET, train=800, heldout=200)
TRAINED = TrainingResult(method="lora", steps=100, examples=800, seconds=60.0, base_digest=BASE_DIGEST,
                         dataset_digest=DATASET, artifact_digest=ARTIFACT, ray_job_id="raysubmit_1")
REFUSED = EvaluationResult(metric="label", estimate=0.7, interval=(0.63, 0.76), n=200, floor=0.9, margin=0.02,
                           confidence=0.95, verdict="refused", reasons=["0.700 is below the floor 0.9"])
PASSED = REFUSED.model_copy(update={"verdict": "passed", "reasons": [], "floor": 0.6})
FRAMES = {"banking": "sha256:" + "b0" * 32, "intents": "sha256:" + "10" * 32}
FOUND = DiscoveryResult(clusters=ClustersFile(
    records=1500, unassigned=100, records_digest="sha256:r",
    clusters=[FoundCluster(name=name, version=f"sha256:{name}", description="One intent a call.", size=700,
                           share=0.45, signature=Signature(fingerprints=[FRAMES[name]]), input_tokens_p95=40,
                           output_format=OutputFormat(type="label", labels=["a", "b"]))
              for name in ("banking", "intents")]))


def until(what: str, met: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, f"after {seconds} s: {what}"
        time.sleep(0.1)
    return found


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gateway_at(address: str, records: int) -> Iterator[None]:
    """A gateway as the operator sees it: an address that answers /signals."""
    told = GatewaySignals(instance="gateway-1", uptime_seconds=9, capture=CaptureSignals(records=records))

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.model_dump_json().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer((address, 9090), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class World:
    """One namespace with an operator in it; the test's hands are its methods."""

    def __init__(self, api: Api, namespace: str, folder: Path, address: str, *, kills: bool) -> None:
        self.api, self.namespace, self.folder, self.address, self.kills = api, namespace, folder, address, kills
        self.store = folder / "store"
        self.store.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.first_seen: dict[str, str] = {}

    # --- the operator

    def start(self, **settings: Any) -> None:
        self.starts += 1
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump({
            "namespace": self.namespace, "storeMount": str(self.store), "kubeRay": "never", "resyncSeconds": 1.0,
            "signalsSeconds": 0.3, **settings}))  # fmt: skip
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        path = os.pathsep.join([str(ROOT / "operator"), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "KUBECONFIG": str(self.api.kubeconfig), "POD_NAME": "operator-0", "PYTHONPATH": path}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*guard, sys.executable, "-m", "slmfleet.cli", "operator", "--config", str(config),
                 "--liveness", f"http://127.0.0.1:{free_port()}/healthz"],
                stdout=log, stderr=subprocess.STDOUT, env=env, cwd=self.folder)  # fmt: skip

    @property
    def log(self) -> Path:
        return self.folder / "operator.log"

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def perhaps_kill(self, **settings: Any) -> None:
        """SIGKILL and a new one, where this world is the one that is disturbed."""
        if self.kills:
            self.stop()
            self.start(**settings)

    # --- the API

    def named(self, kind: str, name: str, version: str = "slmfleet.dev/v1alpha1") -> dict[str, Any]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}}

    def find(self, kind: str, name: str, version: str = "slmfleet.dev/v1alpha1") -> dict[str, Any] | None:
        try:
            return self.api.read(self.named(kind, name, version))
        except Refused as error:
            assert error.code == 404, error
            return None

    def status(self, kind: str, name: str) -> dict[str, Any]:
        return (self.find(kind, name) or {}).get("status") or {}

    def condition(self, kind: str, name: str, type_: str) -> dict[str, Any]:
        return next((c for c in self.status(kind, name).get("conditions", []) if c["type"] == type_), {})

    def reason(self, kind: str, name: str, type_: str) -> str | None:
        return self.condition(kind, name, type_).get("reason")

    def user_applies(self, kind: str, name: str, **fields: Any) -> dict[str, Any]:
        wish = manifest(kind, self.namespace, name)
        for path, value in fields.items():
            wish = changed(wish, "spec." + path.replace("__", "."), value)
        return self.api.apply(wish, manager="kubectl").object

    # --- what a kubelet and controllers would do

    def make_room(self) -> None:
        claim = self.named("PersistentVolumeClaim", "slmfleet-store", "v1")
        self.api.apply({**claim, "spec": {"accessModes": ["ReadWriteOnce"],
                                          "resources": {"requests": {"storage": "1Gi"}}}})  # fmt: skip
        self.api.merge(claim, {"status": {"phase": "Bound"}}, subresource="status")
        self.api.apply({**self.named("Secret", "opener", "v1"), "stringData": {"identity": "AGE-SECRET-KEY-1TEST"}})

    def gateway_runs(self) -> None:
        deployment = self.named("Deployment", "gateway-agents", "apps/v1")
        self.api.merge(deployment, {"status": {"replicas": 1, "readyReplicas": 1}}, subresource="status")
        labels = until("the gateway's Deployment", lambda: self.find("Deployment", "gateway-agents", "apps/v1"))[
            "spec"]["template"]["metadata"]["labels"]  # fmt: skip
        self.pod("gateway-agents-1", labels, {"phase": "Running", "podIP": self.address,
                                              "podIPs": [{"ip": self.address}]})  # fmt: skip

    def pod(self, name: str, labels: dict[str, str], status: dict[str, Any]) -> None:
        pod = self.named("Pod", name, "v1")
        pod["metadata"]["labels"] = labels
        self.api.create({**pod, "spec": {"containers": [{"name": "job", "image": "none"}]}})
        self.api.merge(pod, {"status": status}, subresource="status")

    def job(self, prefix: str, *, but: str = "") -> dict[str, Any]:
        """The only job whose name begins so (but for one that is known)."""
        def one() -> dict[str, Any] | None:
            path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
            found = [j for j in self.api.get(path)["items"] if j["metadata"]["name"].startswith(prefix)]
            for each in found:
                uid = self.first_seen.setdefault(each["metadata"]["name"], each["metadata"]["uid"])
                assert each["metadata"]["uid"] == uid, f"{each['metadata']['name']} was made twice"
            new = [j for j in found if j["metadata"]["name"] != but]
            assert len(new) <= 1, [j["metadata"]["name"] for j in new]
            return new[0] if new else None

        return until(f"a job {prefix}…\n{self.log.read_text()[-1500:]}", one)  # type: ignore[no-any-return]

    def finish(self, job: dict[str, Any], file: str, result: Message) -> None:
        """What the job's pod leaves behind: its result below --out, and a Job that is complete."""
        args = job["spec"]["template"]["spec"]["containers"][0]["args"]
        out = Path(args[args.index("--out") + 1])
        target = out / file if file else out
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(result.model_dump_json(by_alias=True))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        done = [{"type": t, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": now,
                 "lastProbeTime": now, "message": ""} for t in ("SuccessCriteriaMet", "Complete")]  # fmt: skip
        self.end(job, {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done})

    def fail(self, job: dict[str, Any], failure: JobFailure) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        name = job["metadata"]["name"]
        ended = {"exitCode": 1, "message": failure.model_dump_json(), "reason": "Error"}
        labels = {"app.kubernetes.io/managed-by": "slmfleet", "job-name": name}
        self.pod(f"{name}-x", labels, {"phase": "Failed", "containerStatuses": [{
            "name": "job", "image": "none", "imageID": "", "ready": False, "restartCount": 0,
            "state": {"terminated": ended}}]})  # fmt: skip
        over = [{"type": t, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": now,
                 "lastProbeTime": now, "message": "too many"} for t in ("FailureTarget", "Failed")]  # fmt: skip
        self.end(job, {"startTime": now, "failed": 1, "conditions": over})

    def end(self, job: dict[str, Any], status: dict[str, Any]) -> None:
        self.api.merge({**job, "apiVersion": "batch/v1", "kind": "Job"}, {"status": status}, subresource="status")


def play(world: World) -> None:
    """From an empty namespace to one candidate, one failed curation and one refusal on the way."""
    world.make_room()
    world.user_applies("BaseModel", "tiny")
    world.user_applies("Router", "agents", store__claimName="slmfleet-store", capture={
        "recipients": [RECIPIENT], "identitySecretRef": {"name": "opener", "key": "identity"}})  # fmt: skip
    world.start()

    for kind, name, version in (("ConfigMap", "routes-agents", "v1"), ("Service", "gateway-agents", "v1"),
                                ("Deployment", "gateway-agents", "apps/v1")):  # fmt: skip
        until(f"{kind} {name}", lambda k=kind, n=name, v=version: world.find(k, n, v))
    world.gateway_runs()
    until("Router is Ready", lambda: world.condition("Router", "agents", "Ready").get("status") == "True")

    world.perhaps_kill()
    discover = world.job("discover-")
    world.finish(discover, "result.json", FOUND)
    world.perhaps_kill()
    for name in ("banking", "intents"):
        until(f"TaskCluster {name}", lambda n=name: world.status("TaskCluster", n).get("version"))
    assert world.status("TaskCluster", "intents")["candidates"][0]["suitable"] is True

    world.user_applies("Specialist", "intents")
    curate = world.job("curate-intents-")
    world.perhaps_kill()
    world.finish(curate, "report.json", CURATED)
    train = world.job("train-intents-")
    # An operator of another version, with other images, takes over while the job runs.
    world.perhaps_kill(images={"trainer": "trainer:newer"})
    args = train["spec"]["template"]["spec"]["containers"][0]["args"]
    progress = Path(args[args.index("--progress") + 1])
    progress.parent.mkdir(parents=True, exist_ok=True)
    half = TrainingProgress(step=50, total_steps=100, percent=50, ray_job_id="raysubmit_1")
    progress.write_text(half.model_dump_json())
    until("progress", lambda: world.status("Specialist", "intents").get("training", {}).get("percent") == 50)
    world.finish(train, "result.json", TRAINED)
    evaluate = world.job("evaluate-intents-")
    world.perhaps_kill()
    world.finish(evaluate, "", REFUSED)
    until("Stalled", lambda: world.reason("Specialist", "intents", "Stalled") == "GateRefused")
    assert world.status("Specialist", "intents")["weightPercent"] == 0

    world.user_applies("Specialist", "intents", gate__floor=0.6)
    again = world.job("evaluate-intents-", but=evaluate["metadata"]["name"])
    world.perhaps_kill()
    world.finish(again, "", PASSED)
    until("a candidate", lambda: world.status("Specialist", "intents").get("candidate"))
    until("the pool", lambda: world.find("Deployment", "pool-tiny", "apps/v1"))
    until("Placing", lambda: world.status("Specialist", "intents").get("stage") == "Placing")

    world.user_applies("Specialist", "banking")
    world.fail(world.job("curate-banking-"), JobFailure(reason="TooFewExamples", message="12 of 500 examples"))
    until("the failure's reason", lambda: world.reason("Specialist", "banking", "Stalled") == "TooFewExamples")
    until("the Router knows the candidate", lambda: any(
        weight.get("candidate") for weight in world.status("Router", "agents").get("weights", [])))


@pytest.fixture(scope="module")
def worlds(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """The same story twice at the same time: once left alone, once with an operator that is killed at every step."""
    made = {}
    for number, (name, kills) in enumerate((("calm", False), ("killed", True)), 1):
        api.namespace(f"loop-{name}")
        made[name] = World(api, f"loop-{name}", tmp_path_factory.mktemp(name), f"127.77.{number}.9", kills=kills)
    with gateway_at("127.77.1.9", 1500), gateway_at("127.77.2.9", 1500), ThreadPoolExecutor(2) as pool:
        try:
            for _ in pool.map(play, made.values()):
                pass
            yield made
        finally:
            for world in made.values():
                world.stop()


def names(world: World, path: str) -> list[str]:
    return sorted(o["metadata"]["name"] for o in world.api.get(f"{path.format(world.namespace)}")["items"])


LISTS = ["/apis/batch/v1/namespaces/{}/jobs", "/apis/apps/v1/namespaces/{}/deployments",
         "/api/v1/namespaces/{}/services", "/api/v1/namespaces/{}/configmaps",
         "/apis/slmfleet.dev/v1alpha1/namespaces/{}/taskclusters"]  # fmt: skip


def test_every_step_has_one_job_however_often_the_operator_is_killed(worlds: dict[str, World]) -> None:
    assert (worlds["calm"].starts, worlds["killed"].starts) == (1, 7)
    jobs = names(worlds["killed"], LISTS[0])
    assert [name.split("-")[0] for name in jobs] == ["curate", "curate", "discover", "evaluate", "evaluate", "train"]


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.rsplit("/", 1)[-1])
def test_the_killed_world_has_the_same_objects(worlds: dict[str, World], path: str) -> None:
    assert names(worlds["killed"], path) == names(worlds["calm"], path)


TIMES = {"lastTransitionTime", "time", "since", "promoted", "started", "idleSince"}


def timeless(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v, namespace) for k, v in value.items() if k not in TIMES}
    if isinstance(value, list):
        return [timeless(item, namespace) for item in value]
    return value.replace(namespace, "NAMESPACE") if isinstance(value, str) else value


@pytest.mark.parametrize("kind, name", [("Specialist", "intents"), ("Specialist", "banking"),
                                        ("TaskCluster", "intents"), ("BaseModel", "tiny")])  # fmt: skip
def test_the_killed_world_comes_to_the_same_end(worlds: dict[str, World], kind: str, name: str) -> None:
    def end(world: World) -> Any:
        return timeless(world.status(kind, name), world.namespace)

    until(f"{kind} {name} is the same", lambda: end(worlds["killed"]) == end(worlds["calm"]), 10)
    assert end(worlds["calm"])


WISHES = [("Router", "agents"), ("BaseModel", "tiny"), ("Specialist", "intents"), ("Specialist", "banking")]


@pytest.mark.parametrize("kind, name", WISHES)
def test_the_operator_owns_nothing_of_a_users_spec(worlds: dict[str, World], kind: str, name: str) -> None:
    found = worlds["killed"].find(kind, name)
    assert found is not None
    ours = [entry for entry in found["metadata"]["managedFields"] if entry["manager"] == "slmfleet"]
    assert ours, "the operator did write status"
    for entry in ours:
        assert entry["subresource"] == "status"
        assert set(entry["fieldsV1"]) <= {"f:status"}
    assert not found["metadata"].get("finalizers")
    assert not found["metadata"].get("annotations")


def test_applying_the_same_manifests_again_changes_nothing(worlds: dict[str, World]) -> None:
    """What Argo CD, Flux and kubectl diff look at: a server-side dry run of the folder."""
    world = worlds["calm"]
    wish = changed(manifest("Specialist", world.namespace, "intents"), "spec.gate.floor", 0.6)
    before = world.find("Specialist", "intents")
    assert before is not None
    dry = world.api.apply(wish, manager="kubectl", dry_run=True).object
    assert dry["spec"] == before["spec"]
    assert dry["metadata"]["generation"] == before["metadata"]["generation"]


def test_the_history_tells_the_refusal(worlds: dict[str, World]) -> None:
    status = worlds["killed"].status("Specialist", "intents")
    assert [(h["outcome"], h["reason"]) for h in status["history"]] == [("Refused", "0.700 is below the floor 0.9")]
    assert status["candidate"]["artifact"] == ARTIFACT
    assert status["candidate"]["evaluation"]["verdict"] == "passed"


def test_a_failed_job_says_what_happened_and_what_to_do(worlds: dict[str, World]) -> None:
    found = worlds["killed"].condition("Specialist", "banking", "DatasetReady")
    assert (found["status"], found["reason"]) == ("False", "TooFewExamples")
    assert "12 of 500 examples" in found["message"]


def test_conditions_speak_of_the_generation_they_saw(worlds: dict[str, World]) -> None:
    for kind, name in WISHES:
        found = worlds["killed"].find(kind, name)
        assert found is not None
        until(f"{kind} {name} is observed", lambda k=kind, n=name, f=found: worlds["killed"].status(k, n).get(
            "observedGeneration") == f["metadata"]["generation"])  # fmt: skip
        types = [c["type"] for c in found["status"]["conditions"]]
        assert types[0] == "Ready"
        assert len(types) == len(set(types))


def test_events_tell_the_story(worlds: dict[str, World]) -> None:
    """In peace: an operator that is killed between a status and its event does not tell it again."""
    events = worlds["calm"].api.get(f"/api/v1/namespaces/{worlds['calm'].namespace}/events")["items"]
    told = {(e["involvedObject"]["name"], e["reason"], e["type"]) for e in events}
    assert {("intents", "GateRefused", "Warning"), ("banking", "TooFewExamples", "Warning"),
            ("intents", "DatasetStored", "Normal")} <= told  # fmt: skip


def test_the_log_has_no_traceback(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        text = world.log.read_text()
        assert "operator is up" in text
        assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]
        assert not re.search(r"WARNING slmfleet\.loops.*(immutable|Invalid)", text)


WRONG: list[tuple[str, str, Any, str]] = [
    ("Specialist", "rollout.steps", [10, 50], "spec.rollout.steps"),
    ("Specialist", "training.method", "lora", "spec.training.method"),
    ("Specialist", "gaet", {}, "spec.gaet"),
    ("Router", "llm.url", "llm.example", "spec.llm.url"),
    ("Router", "capture.recipients", [], "spec.capture.recipients"),
    ("BaseModel", "pool.minReplicas", 2, "spec.pool.minReplicas"),
]


@pytest.mark.parametrize("kind, path, value, field", WRONG)
def test_a_wrong_manifest_is_refused_by_the_fields_name(
    api: Api, namespace: str, kind: str, path: str, value: Any, field: str
) -> None:
    with pytest.raises(Refused, match=re.escape(field)):
        api.apply(changed(manifest(kind, namespace), f"spec.{path}", value), manager="kubectl")
