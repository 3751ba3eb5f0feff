"""The demo's steps without a cluster: manifests that would be admitted, choices, clean-up, and what is kept."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from demo import again, installing, loop, prepare, run, sending
from demo.cluster import Failed, background, until
from demo.cluster import run as run_command
from demo.loop import has_ended, narrow_clusters, wants_traffic
from demo.manifests import HERE, fill
from demo.steps import Options, Run, take

ROOT = Path(__file__).parents[3]
DIGEST_KEY = "age1" + "q" * 58


def filled():
    yield from documents(fill("namespace", namespace="demo"))
    yield from documents(fill("claims"))
    yield from documents(fill("claims-default", image="slmfleet:1"))
    yield from documents(fill("replay-llm", image="slmfleet:1", latency_scale="0.5"))
    yield from documents(fill("basemodels", parameters=1_700_000, context_tokens=512, idle_seconds=30))
    yield from documents(fill("router", namespace="demo", recipient=DIGEST_KEY, minimum_calls=10_000))
    yield from documents(fill("router-again", namespace="demo", recipient=DIGEST_KEY, minimum_calls=10_000,
                              interval_seconds=60, steps=300, new_examples=400))  # fmt: skip
    for name in ("specialist-voice", "specialist-banking"):
        yield from documents(fill(name, task_cluster="task-1", floor=0.9, agreement=0.85, steps=300))
    yield from documents(fill("specialist-voice-bad", task_cluster="task-1"))


def documents(text):
    return list(yaml.safe_load_all(text))


def of_kind(kind):
    return [each for each in filled() if each["kind"] == kind]


def schema_of(kind):
    for path in (ROOT / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text("utf-8"))
        if crd["spec"]["names"]["kind"] == kind:
            return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    raise AssertionError(f"no CRD for {kind} in crds/")


def unknown_fields(value, schema, path=""):
    """Fields that the API server would drop without a word."""
    if isinstance(value, list):
        return [each for item in value for each in unknown_fields(item, schema.get("items", {}), path)]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    return [f"{path}.{key}" for key in value if key not in known] + [
        each for key in value if key in known for each in unknown_fields(value[key], known[key], f"{path}.{key}")
    ]


def test_every_manifest_is_filled_and_tested_here():
    tested = {each["kind"] for each in filled()}
    assert {"Namespace", "Router", "BaseModel", "Specialist", "Deployment", "PersistentVolumeClaim"} <= tested
    sources = "".join(Path(module.__file__).read_text("utf-8") for module in (installing, loop, again))
    used = set(re.findall(r'fill\(\s*f?"([-a-z{}]+)"', sources))
    expected = {path.stem for path in HERE.glob("*.yaml")}
    assert {name for name in expected if not name.startswith("specialist-")} <= used


@pytest.mark.parametrize("kind", ["Router", "BaseModel", "Specialist"])
def test_our_kinds_keep_to_their_schema(kind):
    schema = schema_of(kind)["properties"]["spec"]
    for each in of_kind(kind):
        assert unknown_fields(each["spec"], schema) == []
        jsonschema.Draft4Validator(schema).validate(each["spec"])


def test_one_base_is_refused_for_its_licence_and_one_for_its_memory():
    from slmfleet.api.basemodel import BaseModelSpec
    from slmfleet.api.specialist import SpecialistSpec
    from slmfleet.plan.select import Need, rank

    bases = {each["metadata"]["name"]: BaseModelSpec.model_validate(each["spec"]) for each in of_kind("BaseModel")}
    wish = SpecialistSpec.model_validate(of_kind("Specialist")[0]["spec"])
    ranked = {each.name: each for each in rank(bases, wish.base.limits, Need(256, wish.training))}
    assert ranked["tiny"].suitable
    assert "licence CC-BY-NC-4.0" in ranked["tiny-nc"].reason and not ranked["tiny-nc"].suitable
    assert "40Gi of memory" in ranked["too-big"].reason and not ranked["too-big"].suitable


def test_the_bad_revision_is_the_same_wish_but_for_training_gate_and_rollout():
    good = documents(fill("specialist-voice", task_cluster="t", floor=0.9, agreement=0.85, steps=300))[0]
    bad = documents(fill("specialist-voice-bad", task_cluster="t"))[0]
    assert good["metadata"] == bad["metadata"]
    differs = {key for key in good["spec"] if good["spec"][key] != bad["spec"][key]}
    assert differs == {"training", "gate", "rollout"}
    assert bad["spec"]["gate"]["floor"] == 0 and bad["spec"]["rollout"]["shadowPercent"] == 0


def test_every_pod_passes_pod_security_restricted():
    pods = [each["spec"]["template"]["spec"] for each in of_kind("Deployment")] + [p["spec"] for p in of_kind("Pod")]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(set(volume) - {"name"} <= {"persistentVolumeClaim", "emptyDir"} for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("own", [True, False])
def test_the_charts_schema_takes_the_demos_values(own):
    run_ = Run(Options(), own_cluster=own)
    mounts = {"trainer_volumes": installing.mounted(run_, "train"), "pool_volumes": installing.mounted(run_, "serve")}
    values = yaml.safe_load(fill("values", image="a:1", trainer_image="b:1", pool_image="c:1", **mounts))
    schema = json.loads((ROOT / "charts/slmfleet/values.schema.json").read_text("utf-8"))
    jsonschema.validate(values, schema)


def test_a_manifest_with_a_name_too_many_or_too_few_is_refused():
    with pytest.raises(ValueError, match="takes"):
        fill("router", namespace="demo")
    with pytest.raises(ValueError, match="takes"):
        fill("claims", colour="red")


def cluster_item(name, labels, calls):
    return {"metadata": {"name": name}, "status": {"labels": labels, "calls": calls}}


def test_the_two_largest_tasks_with_a_closed_set_of_answers_are_chosen_fewest_labels_first():
    items = [cluster_item("chat", None, 9000), cluster_item("b", 77, 7000), cluster_item("s", 7, 2500),
             cluster_item("tiny", 2, 10)]  # fmt: skip
    assert narrow_clusters(items) == ["s", "b"]
    assert narrow_clusters(items[:2]) == []
    assert narrow_clusters([{"metadata": {"name": "new"}}]) == []


def test_stages_that_end_and_stages_that_need_calls():
    at = lambda stage: {"status": {"stage": stage}}  # noqa: E731
    assert all(has_ended(at(stage)) for stage in ("Promoted", "Refused", "RolledBack", "Training failed"))
    assert not any(has_ended(at(stage)) for stage in ("Training", "Canary 10%", "Shadow", ""))
    assert wants_traffic(at("Shadow")) and not wants_traffic(at("Training")) and not has_ended({})


def test_steps_keep_their_minutes_even_where_one_fails(capsys):
    run_ = Run(Options())

    def broken(_):
        raise Failed("no disk: free some")

    with pytest.raises(Failed):
        take(run_, (("first", lambda _: None), ("second", broken), ("third", lambda _: None)))
    assert [title for title, _ in run_.minutes] == ["first", "second"]
    assert "2. second" in capsys.readouterr().out


def test_only_its_own_folder_is_emptied(tmp_path):
    foreign = tmp_path / "home"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("x")
    with pytest.raises(Failed, match="not this demo's"):
        prepare.clean(Run(Options(work=foreign)))
    assert (foreign / "thesis.txt").exists()
    own = Run(Options(work=tmp_path / "demo"))
    prepare.clean(own)
    (own.results / "old.jsonl").write_text("x")
    prepare.clean(own)
    assert list(own.results.iterdir()) == []


def test_the_base_is_made_again_when_its_text_or_recipe_changes(tmp_path):
    run_ = Run(Options(work=tmp_path))
    run_.traffic.mkdir(parents=True)
    (run_.traffic / "pretrain.jsonl").write_text("one")
    first = prepare.base_key(run_)
    assert prepare.base_key(run_) == first
    assert prepare.base_key(Run(Options(work=tmp_path, pretrain_steps=3))) != first
    (run_.traffic / "pretrain.jsonl").write_text("two")
    assert prepare.base_key(run_) != first


def with_a_base(tmp_path, monkeypatch, script):
    """A run whose training environment has `script` for an interpreter; the folder of the base is in $1."""
    monkeypatch.setenv("SLMFLEET_CACHE", str(tmp_path / "cache"))
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nfor last; do out=$last; done\n" + script)
    python.chmod(0o755)
    run_ = Run(Options(work=tmp_path / "demo"), environments={"train": tmp_path / "env"})
    run_.traffic.mkdir(parents=True)
    (run_.traffic / "pretrain.jsonl").write_text("one")
    return run_


MAKES = """mkdir -p "$out" && echo '{"parameters": 7, "base_digest": "sha256:1"}' > "$out/pretrain.json" """


def test_the_base_is_made_beside_other_steps_once_and_kept(tmp_path, monkeypatch):
    run_ = with_a_base(tmp_path, monkeypatch, f"echo made >> {tmp_path}/log\n{MAKES}")
    prepare.begin_base(run_)
    prepare.finish_base(run_)
    prepare.finish_base(run_)
    assert run_.base["parameters"] == 7
    assert (run_.store / "bases" / "tiny" / "pretrain.json").exists()
    again = Run(Options(work=run_.options.work), environments=run_.environments)
    prepare.begin_base(again)
    assert again.pretraining is None
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_base_that_cannot_be_made_says_why_where_it_is_waited_for(tmp_path, monkeypatch):
    run_ = with_a_base(tmp_path, monkeypatch, "echo no memory left >&2; exit 3")
    prepare.begin_base(run_)
    with pytest.raises(Failed, match="exit 3\nno memory left"):
        prepare.finish_base(run_)


def test_a_base_that_nobody_waits_for_is_given_up(tmp_path, monkeypatch):
    run_ = with_a_base(tmp_path, monkeypatch, "exec sleep 1000")
    prepare.begin_base(run_)
    prepare.give_up_base(run_)
    assert run_.pretraining.returncode is not None
    assert run_.base == {}


def test_the_agent_is_sent_to_the_gateway_with_rounds_that_the_last_step_leaves_out(tmp_path):
    run_ = Run(Options(work=tmp_path, size="demo"), gateway="198.18.32.7:80")
    assert "http://198.18.32.7:80/v1" in sending.agent_command(run_, "after")
    assert sending.last_round(run_) == 5


def test_what_a_user_pods_need_is_readable_for_them(tmp_path):
    (tmp_path / "bases").mkdir(mode=0o700)
    (tmp_path / "bases" / "weights").touch(mode=0o600)
    prepare.open_up(tmp_path)
    assert (tmp_path / "bases" / "weights").stat().st_mode & 0o777 == 0o666
    assert (tmp_path / "bases").stat().st_mode & 0o777 == 0o777


def test_a_cluster_of_the_users_needs_images_it_can_pull(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(Failed, match="--image"), installing.some_cluster(Run(Options())):
        pass
    run_ = Run(Options(images={"slmfleet": "a", "trainer": "b", "pool": "c"}))
    with installing.some_cluster(run_):
        assert run_.cluster.kubeconfig == tmp_path / "config" and not run_.own_cluster


def test_a_failing_command_says_what_it_was_and_what_it_said():
    with pytest.raises(Failed, match=r"making tea: exit 3 of .*\nno water"):
        run_command(
            [sys.executable, "-c", "import sys; print('no water', file=sys.stderr); sys.exit(3)"], what="making tea"
        )
    with pytest.raises(Failed, match="there is no no-such-tool on PATH"):
        run_command(["no-such-tool"], what="x")


def test_what_was_started_is_stopped_when_the_block_ends():
    with pytest.raises(KeyError), background([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        raise KeyError
    assert process.poll() is not None


def test_waiting_ends_with_a_reason():
    with pytest.raises(Failed, match="tea: not so after 0 s"):
        until("tea", 0, lambda: None, every=0)
    assert until("tea", 5, iter([None, "hot"]).__next__, every=0) == "hot"


def test_the_help_is_shown_without_a_cluster():
    said = subprocess.run([sys.executable, "-m", "demo.run", "--help"], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(ROOT / "examples")}).stdout  # fmt: skip
    assert "--keep" in said


def test_what_discovery_assigned_is_joined_with_the_true_task_through_the_sealed_log(traffic, tmp_path):
    from dataclasses import asdict

    import pyrage
    from demo.records import records
    from demo.traffic import write_lines

    from slmfleet.store.segments import seal

    run_ = Run(Options(work=tmp_path))
    assert run.found_assignments(run_) is None
    calls = [asdict(call) for call in traffic.calls if call.phase == "train"][:50]
    rows = list(records(calls, traffic.answers))
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "log-key").write_text(f"# recipient: {identity.to_public()}\n{identity}\n")
    for folder in (run_.traffic, run_.store / "usage/fleet/2026", run_.store / "discovery/fleet/0001"):
        folder.mkdir(parents=True)
    lines = [json.dumps(row).encode() for row in rows]
    (run_.store / "usage/fleet/2026/one.seg").write_bytes(seal(lines, [str(identity.to_public())], meta={}))
    write_lines(run_.traffic / "calls.jsonl", calls)
    write_lines(
        run_.store / "discovery/fleet/0001/assignments.jsonl", [{"id": r["id"], "cluster": "x"} for r in rows[:30]]
    )
    assert run.found_assignments(run_) == [(call["task"], "x") for call in calls[:30]]
