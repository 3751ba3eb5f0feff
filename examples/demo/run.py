"""The whole loop on a real Kubernetes node, from an agent's first call to the table: what `make demo` runs.

    python -m demo.run [--keep] [--size demo] [--name demo]

Steps are functions of a `Run`, in the order of PREPARE, LOOP and CALLS; each prints its number and its minutes. Where
KUBECONFIG is set that cluster is used and none is started; it then needs images that it can pull (`--image`). What was
started is stopped again, also after an error or Ctrl-C; `--keep` leaves the cluster up for a look around.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from demo import report as reporting
from demo import traffic
from demo.cluster import KINDS, ROOT, Cluster, Failed, background, development_cluster, reach, run, stop, until
from demo.keys import request_key
from demo.manifests import fill

SPECIALISTS = ("voice", "banking")
ENDED = ("Refused", "RolledBack", "Promoted")  # stages in which a Specialist waits for nobody
FAILED = "failed"  # a stage that ends in this word
BASE_CONTEXT_TOKENS = 512


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    name: str = "demo"
    namespace: str = "slmfleet-demo"
    size: str = "demo"
    seed: int = 7
    system_prompt: str = "own"
    pretrain_task_share: float = 1.0
    pretrain_steps: int = 600
    speedup: float = 100.0
    rollout_rate: float = 30.0  # calls a second while training and serving share the machine
    latency_scale: float = 0.5
    concurrency: int = 64
    idle_seconds: int = 30
    pod_hour_price: float = 0.2
    keep: bool = False
    audit: bool = False  # the development cluster keeps an audit log
    work: Path = ROOT / "build" / "demo"
    images: dict[str, str] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=lambda: {"voice": 0.9, "banking": 0.6})
    steps: dict[str, int] = field(default_factory=lambda: {"voice": 300, "banking": 500})


@dataclass
class Run:
    """What the steps hand on to one another."""

    options: Options
    images: dict[str, str] = field(default_factory=dict)  # slmfleet, trainer, pool: reference
    archives: list[Path] = field(default_factory=list)
    environments: dict[str, Path] = field(default_factory=dict)  # train, serve: folder
    base: dict[str, Any] = field(default_factory=dict)  # pretrain.json
    clusters: dict[str, str] = field(default_factory=dict)  # specialist: task cluster
    gates: dict[str, dict[str, float]] = field(default_factory=dict)
    training_seconds: dict[str, dict[str, float]] = field(default_factory=dict)  # specialist: job: seconds
    outcomes: dict[str, str] = field(default_factory=dict)
    minutes: list[tuple[str, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    shown: str = ""
    _cluster: Cluster | None = None
    own_cluster: bool = True
    gateway: str = ""
    agent: subprocess.Popen[str] | None = None

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            raise Failed("there is no cluster yet; the step that starts it comes first")
        return self._cluster

    @property
    def traffic(self) -> Path:
        return self.options.work / "volume" / "traffic"

    @property
    def store(self) -> Path:
        return self.options.work / "store"

    @property
    def results(self) -> Path:
        return self.options.work / "results"

    def volumes(self) -> dict[str, tuple[Path, str]]:
        """What the development cluster offers to pods."""
        return {
            "slmfleet-store": (self.store, "rw"),
            "demo": (self.options.work / "volume", "ro"),
            "env-train": (self.environments["train"], "ro"),
            "env-serve": (self.environments["serve"], "ro"),
        }

    def say(self, line: str) -> None:
        print(f"   {line}", flush=True)

    def note(self, line: str) -> None:
        """Say it now, and again in the report."""
        self.events.append(line)
        self.say(line)


# Before there is a cluster


MARK = ".slmfleet-demo"


def clean(run_: Run) -> None:
    """Start from nothing: the store and the results of an earlier run would be counted as this one's."""
    work = run_.options.work
    if work.exists() and any(work.iterdir()) and not (work / MARK).exists():
        raise Failed(f"{work} has files that are not this demo's; name an empty or a new folder with --work")
    shutil.rmtree(work, ignore_errors=True)
    run_.results.mkdir(parents=True)
    (work / MARK).touch()


def build_images(run_: Run) -> None:
    """Images and environments, each once."""
    python = sys.executable
    if run_.options.images:
        run_.images = run_.options.images
        return
    for name in ("slmfleet", "trainer", "pool"):
        said = run([python, "images/build.py", name, "--json"], what=f"image {name}", timeout=3600, echo=True)
        built = json.loads(said)[name]
        run_.images[name] = built["image"]
        run_.archives.append(Path(built["archive"]))
    ensure_environment(run_, "serve")


def ensure_environment(run_: Run, name: str) -> Path:
    """Folder of a heavy environment; made when the cache lacks it."""
    if name not in run_.environments:
        said = run(
            [sys.executable, "images/environments.py", name], what=f"environment {name}", timeout=3600, echo=True
        )
        run_.environments[name] = Path(said.strip().splitlines()[-1])
    return run_.environments[name]


def make_traffic(run_: Run) -> None:
    """The agent's calls, and the code that the replayed LLM runs."""
    options = run_.options
    facts = traffic.write(run_.traffic, options.size, options.system_prompt, options.seed, options.pretrain_task_share)
    copy_code(run_)
    calls = sum(row["calls"] for row in facts["calls"])
    run_.say(
        f"{calls:,} calls, {facts['conversations']:,} conversations, wrong answers of the LLM {facts['wrong_share']}"
    )


def copy_code(run_: Run) -> None:
    """What the replayed LLM runs."""
    code = run_.traffic.parent / "code" / "demo"
    shutil.copytree(Path(__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", "data", "manifests"))


def pretrain_base(run_: Run) -> None:
    """A tiny base from the training side's text, kept by the digest of everything that made it."""
    environment = ensure_environment(run_, "train")
    folder = cache_root() / "bases" / base_key(run_)
    if not (folder / "pretrain.json").exists():
        run([environment / "bin" / "python", "-m", "slmtrain.pretrain", *pretrain_arguments(run_), "--out", folder],
            what="pretraining the base", env={**os.environ, "PYTHONPATH": f"{ROOT / 'trainers'}:{ROOT / 'operator'}"},
            timeout=3600, echo=True)  # fmt: skip
    run_.base = json.loads((folder / "pretrain.json").read_text("utf-8"))
    target = run_.store / "bases" / "tiny"
    shutil.copytree(folder, target)
    open_up(run_.store)
    run_.say(
        f"base: {run_.base['parameters']:,} parameters, {run_.base['base_digest'][:19]}…, it saw training text only"
    )


def pretrain_arguments(run_: Run) -> list[str]:
    text, seed = str(run_.traffic / "pretrain.jsonl"), str(run_.options.seed)
    return ["--text", text, "--seed", seed, "--steps", str(run_.options.pretrain_steps),
            "--context", str(BASE_CONTEXT_TOKENS)]  # fmt: skip


def base_key(run_: Run) -> str:
    """Digest of the text, the recipe's settings and its code."""
    digest = hashlib.sha256((run_.traffic / "pretrain.jsonl").read_bytes())
    digest.update(repr(pretrain_arguments(run_)[2:]).encode())
    for path in sorted((ROOT / "trainers" / "slmtrain").glob("*.py")):
        if path.name in ("pretrain.py", "data.py", "files.py"):
            digest.update(path.read_bytes())
    return f"tiny-{digest.hexdigest()[:12]}"


def cache_root() -> Path:
    return Path(os.environ.get("SLMFLEET_CACHE") or "~/.cache/slmfleet").expanduser()


def open_up(folder: Path) -> None:
    """Pods run as another user: they read what is there and write beside it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)


# The cluster


@contextlib.contextmanager
def some_cluster(run_: Run) -> Iterator[None]:
    """The user's own where KUBECONFIG names one, else a development cluster for the time of the demo."""
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
    from demo.cluster import devcluster

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
    """The LLM's stand-in, three base models, and the gateway."""
    cluster, options = run_.cluster, run_.options
    apply_llm_and_bases(run_)
    cluster.apply(
        fill("router", namespace=options.namespace, recipient=recipient(run_), minimum_calls=train_calls(run_))
    )
    await_router(run_)


def await_router(run_: Run) -> None:
    run_.cluster.kubectl("rollout", "status", "deployment/replay-llm", "--timeout=120s", timeout=150)
    run_.cluster.wait("router/fleet", "Ready", 180)


def apply_llm_and_bases(run_: Run) -> None:
    """The LLM's stand-in and three base models."""
    cluster, options = run_.cluster, run_.options
    cluster.apply(fill("replay-llm", image=run_.images["slmfleet"], latency_scale=str(options.latency_scale)))
    cluster.apply(fill("basemodels", parameters=run_.base["parameters"], context_tokens=BASE_CONTEXT_TOKENS,
                       idle_seconds=options.idle_seconds))  # fmt: skip


def train_calls(run_: Run) -> int:
    """Discovery runs once the log has (nearly) all of the first phase; some calls may be sampled out or broken."""
    facts = json.loads((run_.traffic / "manifest.json").read_text("utf-8"))
    return int(0.98 * sum(row["calls"] for row in facts["calls"] if row["phase"] == "train"))


def gateway_service(run_: Run) -> str:
    return "gateway-fleet"


# The agent


def agent_command(run_: Run, stage: str, *arguments: str) -> list[str]:
    options = run_.options
    return [
        sys.executable, "-m", "demo.agent", "--url", f"http://{run_.gateway}/v1", "--traffic", str(run_.traffic),
        "--out", str(run_.results / f"{stage}.jsonl"), "--stage", stage, "--speedup", str(options.speedup),
        "--concurrency", str(options.concurrency), *arguments,
    ]  # fmt: skip


def agent_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "examples")}


def await_gateway(run_: Run) -> None:
    """The node's service rules follow a ready pod a moment later; until then a Service refuses connections: the
    gateway's to the agent, and the LLM's to the gateway."""
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{run_.gateway}/v1/models", timeout=5):
                return True
        except OSError:  # an HTTP error as well
            return False

    until("an answer of the LLM through the gateway", 60, answers, every=0.5)


def send(run_: Run, stage: str, *arguments: str) -> None:
    """One run of the agent. Errors that it saw are in its results and in the table; they do not end the demo."""
    await_gateway(run_)
    done = subprocess.run(agent_command(run_, stage, *arguments), env=agent_env(), cwd=ROOT, check=False)
    if done.returncode not in (0, 1):
        raise Failed(f"the agent ended with exit {done.returncode} while it sent {stage!r}")


def last_round(run_: Run) -> int:
    return traffic.SIZES[run_.options.size].rounds


def send_before(run_: Run) -> None:
    """Everything goes to the LLM and into the log."""
    send(run_, reporting.BEFORE, "--phase", "train")


def send_after(run_: Run) -> None:
    """The last round: calls that were never sent before and that nothing has learned from."""
    stop_rollout_traffic(run_)
    send(run_, reporting.AFTER, "--phase", "later", "--round", str(last_round(run_)))


@contextlib.contextmanager
def rollout_traffic(run_: Run, stage: str = "rollout", rounds: tuple[int, ...] = ()) -> Iterator[None]:
    """Rounds of `later` calls (all but the last), again and again in new conversations, as long as the block runs."""
    chosen = [word for number in rounds or range(1, last_round(run_)) for word in ("--round", str(number))]
    command = agent_command(run_, stage, "--phase", "later", *chosen, "--repeat", "50",
                            "--max-rate", str(run_.options.rollout_rate))  # fmt: skip
    log = (run_.options.work / f"agent-{stage}.log").open("a", encoding="utf-8")
    with log, background(command, env=agent_env(), stdout=log, stderr=subprocess.STDOUT) as run_.agent:
        yield
    run_.agent = None


def stop_rollout_traffic(run_: Run) -> None:
    if run_.agent is not None:
        stop(run_.agent)


# The loop


def discover(run_: Run) -> None:
    """Wait for the tasks that the Router finds by itself."""
    run_.cluster.wait("router/fleet", "Discovered", 600)
    found = until(
        "a TaskCluster for each of the two tasks", 120, lambda: narrow_clusters(run_.cluster.list("taskclusters"))
    )
    run_.clusters = dict(zip(SPECIALISTS, found, strict=True))
    run_.say(run_.cluster.kubectl("get", "taskclusters").strip().replace("\n", "\n   "))
    for name in run_.clusters.values():
        for each in (run_.cluster.get("taskcluster", name) or {}).get("status", {}).get("candidates", []):
            run_.say(f"{name}: base {each['name']} {'fits' if each['suitable'] else 'refused'}: {each['reason']}")


def narrow_clusters(items: list[dict[str, Any]]) -> list[str]:
    """What a person would pick: clusters whose answers are a closed set, the two largest, fewer labels first."""
    closed = [item for item in items if 2 <= (item.get("status", {}).get("labels") or 0) <= 200]
    largest = sorted(closed, key=lambda item: -(item["status"].get("calls") or 0))[: len(SPECIALISTS)]
    if len(largest) < len(SPECIALISTS):
        return []
    return [item["metadata"]["name"] for item in sorted(largest, key=lambda item: item["status"]["labels"])]


def specialist(run_: Run, name: str) -> str:
    """The wish for one task. The shadow asks a little less than the gate: it judges fewer calls."""
    floor = run_.options.floors[name]
    return fill(f"specialist-{name}", task_cluster=run_.clusters[name], floor=floor, agreement=round(floor - 0.05, 3),
                steps=run_.options.steps[name])  # fmt: skip


def apply_specialists(run_: Run) -> None:
    """One wish a task. From here on the operator does everything."""
    for name in SPECIALISTS:
        run_.cluster.apply(specialist(run_, name))
        gate = (run_.cluster.get("specialist", name) or {})["spec"]["gate"]
        run_.gates[name] = {"floor": float(gate["floor"]), "margin": float(gate["margin"])}


def follow(run_: Run, seconds: float, done: Callable[[dict[str, dict[str, Any]]], bool], what: str) -> None:
    """Print `kubectl get slm` whenever it changes, until `done` says so of the Specialists."""

    def look() -> bool:
        items = {item["metadata"]["name"]: item for item in run_.cluster.list("specialists")}
        note_training(run_)
        text = run_.cluster.kubectl("get", "specialists").strip()
        if text != run_.shown:
            run_.shown = text
            run_.say(text.replace("\n", "\n   ") + "\n")
        return done(items)

    try:
        until(what, seconds, look)
    except Failed as error:
        raise Failed(f"{error}\n{run_.cluster.explain('specialists')}") from error


def stage_of(item: dict[str, Any]) -> str:
    return (item.get("status") or {}).get("stage") or ""


def note_training(run_: Run) -> None:
    """Wall time of the training jobs, which is what they cost; noted now because jobs are cleaned up."""
    for job in run_.cluster.list("jobs", "app.kubernetes.io/component=training"):
        name, status = job["metadata"]["labels"].get("app.kubernetes.io/instance", ""), job.get("status", {})
        if status.get("startTime"):
            end = status.get("completionTime") or datetime.now().astimezone().isoformat()
            spent = datetime.fromisoformat(end) - datetime.fromisoformat(status["startTime"])
            run_.training_seconds.setdefault(name, {})[job["metadata"]["name"]] = spent.total_seconds()


def has_ended(item: dict[str, Any]) -> bool:
    return stage_of(item) in ENDED or stage_of(item).endswith(FAILED)


def wants_traffic(item: dict[str, Any]) -> bool:
    """Whether calls are needed for anything to go on, or nothing will go on any more."""
    return stage_of(item).startswith(("Placing", "Shadow")) or has_ended(item)


def train_and_roll_out(run_: Run) -> None:
    """Dataset, base, training, gate, shadow, canary: until both serve everything or were refused."""
    follow(run_, 1500, lambda items: any(map(wants_traffic, items.values())), "a Specialist's training and gate")
    with rollout_traffic(run_):
        follow(run_, 1500, lambda items: all(has_ended(i) for i in items.values()), "both rollouts")
    for name, item in ((name, run_.cluster.get("specialist", name) or {}) for name in SPECIALISTS):
        status = item.get("status", {})
        run_.outcomes[name] = stage_of(item)
        run_.note(f"{name}: {stage_of(item)}, score {status.get('score')}, weight {status.get('weightPercent')} %, "
                  f"base {status.get('base')}: {status.get('baseReason')}")  # fmt: skip


def bad_revision(run_: Run) -> None:
    """A second revision, made bad on purpose: the canary takes it back and no client notices."""
    if run_.outcomes.get("voice") != "Promoted":
        run_.note("the bad revision was left out: there is no stable revision of voice to roll back to")
        return
    run_.cluster.apply(fill("specialist-voice-bad", task_cluster=run_.clusters["voice"]))
    with rollout_traffic(run_, "bad"):
        follow(run_, 900, lambda items: stage_of(items["voice"]) == "RolledBack", "the bad revision's rollback")
    ended = (run_.cluster.get("specialist", "voice") or {})["status"]["history"][0]
    run_.note(f"voice: bad revision {ended['revision']} {ended['outcome']}: {ended.get('reason', '')}")
    run_.cluster.apply(specialist(run_, "voice"))
    follow(run_, 300, lambda items: stage_of(items["voice"]) == "Promoted", "the good revision's return")


def idle(run_: Run) -> None:
    """No calls: the pool goes to zero."""

    def pool() -> dict[str, Any]:
        return (run_.cluster.get("basemodel", "tiny") or {}).get("status", {})

    until("the pool at zero", run_.options.idle_seconds + 240, lambda: pool().get("replicas", 0) == 0)
    for each in reversed(pool().get("scalingHistory", [])):
        run_.note(f"pool tiny: {each['previous']} to {each['replicas']} servers at {each['time']}: {each['reason']}")


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


Step = tuple[str, Callable[[Run], None]]
PREPARE: tuple[Step, ...] = (
    ("clear the last run's files", clean),
    ("build images and environments", build_images),
    ("make the agent's traffic", make_traffic),
    ("pretrain the tiny base", pretrain_base),
)
LOOP: tuple[Step, ...] = (
    ("load images", load_images),
    ("install the operator", install),
    ("put the gateway in front of the LLM", apply_router),
)
CALLS: tuple[Step, ...] = (
    ("the agent calls the LLM", send_before),
    ("find the tasks in the log", discover),
    ("ask for two specialists", apply_specialists),
    ("dataset, training, gate, shadow, canary", train_and_roll_out),
    ("a bad revision, rolled back", bad_revision),
    ("calls that nothing has learned from", send_after),
    ("idle: the pool goes to zero", idle),
)


def take(run_: Run, steps: tuple[Step, ...]) -> None:
    """One step after the other, with number and minutes."""
    for title, step in steps:
        number = len(run_.minutes) + 1
        print(f"\n{number}. {title}", flush=True)
        began = time.monotonic()
        try:
            step(run_)
        finally:
            run_.minutes.append((title, time.monotonic() - began))
        print(f"   {run_.minutes[-1][1] / 60:.1f} min", flush=True)


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
