"""Staging and production, each following a folder of one Git repository: a commit promotes, and a second one serves the
same digest in production without training anything there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import look
import pytest
import yaml
from conftest import LOOP_WITH_BASES, PREPARED, options
from demo import installing, loop, prepare, sending
from demo.cluster import reach, until
from demo.steps import Run, take

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(3600)]


class Repository:
    """A Git repository whose folders are applied server-side at every commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        self.followers: dict[str, Run] = {}

    def commit(self, path: str, text: str, message: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self._git("add", "--all")
        self._git("-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", message)
        folder = path.split("/")[0]
        if folder in self.followers:
            self.followers[folder].cluster.apply(self.manifest(folder))

    def manifest(self, folder: str) -> str:
        """All manifests of a folder, as they are in the newest commit."""
        names = self._git("ls-tree", "-r", "--name-only", "HEAD", f"{folder}/").split()
        return "\n---\n".join(self._git("show", f"HEAD:{name}") for name in names)

    def assert_no_drift(self) -> None:
        for folder, run in self.followers.items():
            assert look.diff(run, self.manifest(folder)) == "", folder

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.root), *words], capture_output=True, text=True, check=True)
        return done.stdout


@contextlib.contextmanager
def environment(name: str, work: Path) -> Iterator[Run]:
    run = Run(options(name, f"slmfleet-{name}", work / name))
    with contextlib.ExitStack() as stack:
        take(run, PREPARED)
        take(run, (("start the cluster", lambda r: stack.enter_context(installing.some_cluster(r))),))
        take(run, LOOP_WITH_BASES)
        run.gateway = stack.enter_context(reach(run.cluster, installing.gateway_service(run), direct=run.own_cluster))
        yield run


def stage(run: Run) -> str:
    return str(look.status(run, "specialist", "voice").get("stage"))


def specialist(run: Run, **changes: Any) -> str:
    found = yaml.safe_load(loop.specialist(run, "voice"))
    rollout = changes.pop("rollout", {})
    found["spec"] |= changes
    found["spec"]["rollout"] |= rollout
    return str(yaml.safe_dump(found))


def declared(found: dict[str, Any]) -> str:
    """The TaskCluster as a person commits it: its spec, and nothing of where it was found."""
    return json.dumps({"apiVersion": found["apiVersion"], "kind": "TaskCluster",
                       "metadata": {"name": found["metadata"]["name"]}, "spec": found["spec"]})


def test_a_commit_promotes_in_staging_and_another_serves_the_same_digest_in_production(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    with environment("staging", tmp_path) as staging, environment("production", tmp_path) as production:
        repository.followers = {"staging": staging, "production": production}
        sending.send_before(staging)
        loop.discover(staging)
        name = staging.clusters["voice"]
        repository.commit("staging/voice.yaml", specialist(staging, rollout={"approval": "Manual"}), "try a specialist")
        repository.assert_no_drift()
        until("the gate", 600, lambda: stage(staging) in ("Placing", "Shadow"))
        with sending.rollout_traffic(staging):
            until("waiting for approval", 600, lambda: stage(staging) == "Approval")
            repository.assert_no_drift()
            digest = look.status(staging, "specialist", "voice")["candidate"]["artifact"]
            assert look.status(staging, "specialist", "voice")["weightPercent"] == 0
            repository.commit("staging/voice.yaml", specialist(
                staging, rollout={"approval": "Manual", "promote": digest}), "promote it")
            until("the canary", 120, lambda: stage(staging).startswith("Canary"), every=0.5)
            repository.assert_no_drift()
            until("promotion in staging", 600, lambda: stage(staging) == "Promoted")
        stable = look.status(staging, "specialist", "voice")["stable"]
        assert stable["artifact"] == digest

        shutil.copytree(staging.store / stable["path"], production.store / stable["path"])
        prepare.open_up(production.store / "artifacts")
        found = staging.cluster.get("taskcluster", name) or {}
        repository.commit("production/task.yaml", declared(found), "the task, as found in staging")
        repository.commit("production/voice.yaml", specialist(
            staging, base={"name": "tiny"}, artifact=f"file:///{stable['path']}@{digest}"), "serve what staging proved")
        with sending.rollout_traffic(replaced(production)):
            until("promotion in production", 600, lambda: stage(production) == "Promoted")
        repository.assert_no_drift()
        assert look.status(production, "specialist", "voice")["stable"]["artifact"] == digest
        assert production.cluster.list("jobs", "app.kubernetes.io/component=training") == []
        assert look.errors(look.results(production, "rollout")) == []


def replaced(run: Run) -> Run:
    """The same run at a rate that two clusters on one machine can bear."""
    run.options = replace(run.options, rollout_rate=15.0)
    return run
