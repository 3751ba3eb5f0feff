"""The development cluster on this machine: real daemons, real pods, and nothing left when it is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST_FOLDERS = [Path(path) for path in ("/var/lib/kubelet", "/var/lib/cni", "/run/netns", "/var/log/pods")]
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
pytestmark = [
    pytest.mark.node,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster on this machine needs root"),
]


class Tool:
    """The command line of the development cluster, with a state folder of the test's own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environ = {**os.environ, "SLMFLEET_STATE": str(state)}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "devcluster", *words]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            self.argv(*words), cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kubectl(self, cluster: str, *words: str, stdin: str | None = None) -> str:
        program = self.state / cluster / "bin" / "kubectl"
        argv = [str(program), "--kubeconfig", self("kubeconfig", "--name", cluster).strip(), *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pid(self, cluster: str, process: str) -> int:
        return json.loads((self.state / cluster / "processes" / f"{process}.json").read_text())["pid"]

    def slot(self, cluster: str) -> int:
        return json.loads((self.state / cluster / "cluster.json").read_text())["slot"]


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    tool = Tool(tmp_path_factory.mktemp("s"))
    yield tool
    if tool.state.exists():
        tool("down", "--all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "greeting").write_text("hello from the host\n")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def folders_before():
    return [path for path in HOST_FOLDERS if path.exists()]


@pytest.fixture(scope="module")
def alpha(tool, folder, folders_before):
    """A cluster with a read-only and a writable volume, and a namespace in which a pod runs as `restricted` asks."""
    started = time.monotonic()
    tool("build")
    image = subprocess.run(
        [sys.executable, "images/build.py", "base", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    base = json.loads(image.stdout)["base"]
    print(f"binaries and base image: {time.monotonic() - started:.0f} s")
    volumes = ["--volume", f"greetings={folder}", "--volume", f"scratch={tool.state}-scratch:rw"]
    tool("up", "--name", "alpha", *volumes)
    tool("load", base["archive"], "--name", "alpha")
    tool.kubectl("alpha", "apply", "-f", "-", stdin=objects(base["image"]))
    tool.kubectl("alpha", "-n", "demo", "wait", "--for=condition=Ready", "pod/reader", "--timeout=60s")
    return "alpha"


def objects(image: str) -> str:
    namespace = {"name": "demo", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace},
        claim("greetings", "ReadOnlyMany"),
        claim("scratch", "ReadWriteMany"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "greeter", "namespace": "demo"},
            "spec": {"selector": {"app": "reader"}, "ports": [{"port": 80}]},
        },
        pod(image),
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def claim(name: str, mode: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "accessModes": [mode],
            "storageClassName": "devcluster",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def pod(image: str) -> dict:
    names = ("greetings", "scratch")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader", "namespace": "demo", "labels": {"app": "reader"}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "reader",
                    "image": image,
                    "command": ["bash", "-c", "cat /greetings/greeting; exec sleep infinity"],
                    "securityContext": SECURE,
                    "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in names],
                }
            ],
            "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names],
        },
    }


def inside(tool: Tool, script: str) -> str:
    return tool.kubectl("alpha", "-n", "demo", "exec", "reader", "--", "bash", "-c", script)


def traces(tool: Tool, cluster: str, slot: int) -> list[str]:
    """Whatever is left on the machine of one cluster: link, routes, mounts, cgroups, processes."""
    state = str(tool.state / cluster)
    link = f"slmdev{slot}"
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        *([f"link {link}"] if Path("/sys/class/net", link).exists() else []),
        *(f"route {line}" for line in routes if f"dev {link} " in line),
        *(f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if state in line),
        *(f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{link}-{cluster}")),
        *(f"process {pid}: {command}" for pid, command in commands() if f"{state}/" in command),
    ]


def commands() -> list[tuple[str, str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((path.parent.name, path.read_bytes().replace(b"\0", b"/ ").decode(errors="replace")))
        except OSError:
            continue
    return found


def test_the_node_is_ready_and_a_second_up_says_so(tool, alpha):
    assert " Ready " in tool.kubectl(alpha, "get", "node", "alpha")
    assert "is up already" in tool("up", "--name", alpha)
    assert json.loads(tool("list", "--json"))[0]["state"] == "ready"


def test_a_restricted_pod_reads_a_folder_of_the_host_and_cannot_change_it(tool, alpha):
    assert inside(tool, "cat /greetings/greeting; id -u") == "hello from the host\n65532\n"
    assert "Read-only file system" in inside(tool, "touch /greetings/new 2>&1; true")


def test_a_restricted_pod_writes_to_a_writable_volume(tool, alpha):
    inside(tool, "echo kept > /scratch/note")
    assert Path(f"{tool.state}-scratch", "note").read_text() == "kept\n"


def test_a_services_name_resolves_to_its_address(tool, alpha):
    address = tool.kubectl(alpha, "-n", "demo", "get", "service", "greeter", "-o", "jsonpath={.spec.clusterIP}")
    assert inside(tool, "getent hosts greeter.demo.svc.cluster.local").split()[0] == address


def test_logs_are_read_through_the_api_server(tool, alpha):
    assert tool.kubectl(alpha, "-n", "demo", "logs", "reader") == "hello from the host\n"


def test_a_pod_has_no_way_out(tool, alpha):
    assert "unreachable" in inside(tool, "(echo > /dev/tcp/192.0.2.1/80) 2>&1; true")


def test_a_privileged_pod_is_refused(tool, alpha):
    bad = {**pod("x"), "metadata": {"name": "bad", "namespace": "demo"}}
    bad["spec"] = {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]}
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        tool.kubectl(alpha, "apply", "-f", "-", stdin=json.dumps(bad))


def test_up_repairs_what_was_killed_and_pods_live_on(tool, alpha):
    started = tool.kubectl(alpha, "-n", "demo", "get", "pod", "reader", "-o", "jsonpath={.status.startTime}")
    for process in ("kubelet", "containerd", "kube-apiserver"):
        os.kill(tool.pid(alpha, process), signal.SIGKILL)
    assert "is up after" in tool("up", "--name", alpha)
    assert inside(tool, "echo alive") == "alive\n"
    again = tool.kubectl(alpha, "-n", "demo", "get", "pod", "reader", "-o", "jsonpath={.status.startTime}")
    assert again == started


def test_clusters_live_side_by_side_and_go_without_a_trace(tool, alpha, folders_before):
    assert "is up after" in tool("up", "--name", "beta")
    alpha_slot, beta_slot = tool.slot("alpha"), tool.slot("beta")
    assert alpha_slot != beta_slot
    assert traces(tool, "alpha", alpha_slot)
    tool("down", "--name", "beta")
    assert traces(tool, "beta", beta_slot) == []
    assert inside(tool, "echo alive") == "alive\n"
    os.kill(tool.pid("alpha", "containerd"), signal.SIGKILL)
    tool("down", "--name", "alpha")
    assert traces(tool, "alpha", alpha_slot) == []
    assert not tool.state.exists()
    if not any("slmfleet-devcluster/" in command for _, command in commands()):  # another cluster may use them
        assert [path for path in HOST_FOLDERS if path.exists()] == folders_before


@pytest.mark.parametrize("seconds", [0.3, 1.0, 4.0])
def test_an_up_that_was_killed_half_way_goes_without_a_trace(tool, seconds):
    up = subprocess.Popen(tool.argv("up", "--name", "gamma"), cwd=ROOT, env=tool.environ, stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    up.kill()
    up.wait()
    if not (tool.state / "gamma" / "cluster.json").exists():
        return
    slot = tool.slot("gamma")
    time.sleep(1)  # what the killed `up` had started itself (ip, mount) ends by itself, a moment after it
    tool("down", "--name", "gamma")
    assert traces(tool, "gamma", slot) == []
    assert not tool.state.exists()
