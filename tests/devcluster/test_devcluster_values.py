"""The parts of the development cluster that only compute: names, addresses, volumes, keys, messages."""

from __future__ import annotations

import ipaddress
import itertools
import shutil
from pathlib import Path

import pytest
from devcluster.cli import main
from devcluster.cluster import SLOTS, Addresses, Cluster, cache_root, check_name, free_slot, state_root
from devcluster.problem import Problem, last_line, run
from devcluster.state import find, find_or_create
from devcluster.volumes import Volume

from devcluster import build, cgroups, config, packages

DEV = Cluster("dev", 1, Path("/state"))


def networks(slot: int) -> list[ipaddress.IPv4Network]:
    where = Addresses.of_slot(slot)
    link = ipaddress.ip_network(f"{where.host}/{where.link_prefix}", strict=False)
    return [link, ipaddress.IPv4Network(where.pods), ipaddress.IPv4Network(where.services)]


def test_no_two_ranges_of_all_slots_overlap_and_all_lie_in_the_benchmark_range():
    ranges = [network for slot in range(SLOTS) for network in networks(slot)]
    assert not [pair for pair in itertools.combinations(ranges, 2) if pair[0].overlaps(pair[1])]
    assert all(network.subnet_of(ipaddress.IPv4Network("198.18.0.0/15")) for network in ranges)


def test_host_and_node_share_the_link_and_dns_is_a_service():
    for slot in range(SLOTS):
        where = Addresses.of_slot(slot)
        link, _, services = networks(slot)
        assert ipaddress.IPv4Address(where.host) in link
        assert ipaddress.IPv4Address(where.node) in link
        assert {ipaddress.IPv4Address(where.api_service), ipaddress.IPv4Address(where.dns_service)} <= set(services)


@pytest.mark.parametrize(
    ("taken", "links", "slot"),
    [
        ({}, [], 0),
        ({"a": 0}, ["lo", "slmdev0"], 1),
        ({"a": 1}, [], 0),
        ({}, ["slmdev0", "slmdev1"], 2),
        ({"stopped": 0, "other": 2}, ["slmdev1"], 3),
    ],
)
def test_the_lowest_free_slot_is_taken(taken, links, slot):
    assert free_slot(taken, links) == slot


def test_when_every_slot_is_taken_the_message_names_the_clusters():
    with pytest.raises(Problem, match=r"in use by c0, c1, .*devcluster down"):
        free_slot({f"c{slot}": slot for slot in range(SLOTS)}, [])


@pytest.mark.parametrize("name", ["dev", "staging", "a", "a-1", "x" * 30])
def test_names_that_are_good(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Dev", "-a", "a-", "a_b", "../x", "a.b", "x" * 31])
def test_names_that_are_refused(name):
    with pytest.raises(Problem, match="lower-case"):
        check_name(name)


def test_link_names_fit_the_kernel():
    assert all(len(Cluster("x" * 30, slot, Path("/s")).link) <= 15 for slot in range(SLOTS))


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("env=/srv/env", Volume("env", Path("/srv/env"), False)),
        ("env=/srv/env:ro", Volume("env", Path("/srv/env"), False)),
        ("store=/srv/store:rw", Volume("store", Path("/srv/store"), True)),
        ("odd=/srv/a:b=c", Volume("odd", Path("/srv/a:b=c"), False)),
    ],
)
def test_volume_arguments(text, volume):
    assert Volume.parse(text) == volume


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("env", "NAME=HOSTPATH"),
        ("env=", "NAME=HOSTPATH"),
        ("env=:rw", "NAME=HOSTPATH"),
        ("=/srv", "lower-case"),
        ("Env=/srv", "lower-case"),
        ("env=srv", "must start with /"),
    ],
)
def test_bad_volume_arguments_say_what_to_write(text, hint):
    with pytest.raises(Problem, match=hint):
        Volume.parse(text)


def test_a_read_only_volume_is_read_only_at_the_node():
    spec = Volume.parse("env=/srv/env").manifest("dev")["spec"]
    assert (spec["accessModes"], spec["mountOptions"]) == (["ReadOnlyMany"], ["ro"])
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"


def test_a_writable_volume_may_be_shared():
    spec = Volume.parse("store=/srv/store:rw").manifest("dev")["spec"]
    assert spec["accessModes"] == ["ReadWriteMany", "ReadWriteOnce"]
    assert "mountOptions" not in spec


def test_a_writable_folder_is_made_for_any_user_and_a_read_only_one_must_exist(tmp_path):
    Volume("rw", tmp_path / "rw", True).prepare()
    assert (tmp_path / "rw").stat().st_mode & 0o777 == 0o777
    with pytest.raises(Problem, match="make it first"):
        Volume("ro", tmp_path / "ro", False).prepare()


def test_a_binary_has_a_new_key_when_a_pinned_version_or_a_flag_changes(tmp_path):
    binary = build.BINARIES["etcd"]
    shutil.copytree(Path(build.__file__).parent / "binaries" / "etcd", tmp_path / "etcd")
    before = binary.key(tmp_path)
    assert before == binary.key(tmp_path) == binary.key()
    with (tmp_path / "etcd" / "go.sum").open("a") as file:
        file.write("\n")
    assert binary.key(tmp_path) != before
    assert build.Binary(binary.name, binary.version, "etcd", binary.package, "-X a=b").key() != before


def test_every_binary_has_a_pinned_module():
    for binary in build.BINARIES.values():
        module = Path(build.__file__).parent / "binaries" / binary.module
        assert (module / "go.mod").is_file()
        version = f"v{binary.version}"
        assert binary.module in ("pause", "eventstream") or version in (module / "go.mod").read_text()


def test_where_things_are_kept():
    assert cache_root({"SLMFLEET_CACHE": "/c"}) == Path("/c")
    assert cache_root({}) == Path.home() / ".cache" / "slmfleet"
    assert state_root({"SLMFLEET_STATE": "/s"}) == Path("/s")
    assert state_root({}) == Path("/var/lib/slmfleet-devcluster")


def test_clusters_get_slots_of_their_own_and_keep_them(tmp_path):
    first, second = find_or_create(tmp_path, "a"), find_or_create(tmp_path, "b")
    assert first.slot != second.slot
    assert find_or_create(tmp_path, "a") == find(tmp_path, "a") == first


def test_an_unknown_cluster_is_named_with_those_there_are(tmp_path):
    find_or_create(tmp_path, "a")
    with pytest.raises(Problem, match=r"no cluster 'b' .*there are: a\).*up --name b"):
        find(tmp_path, "b")


def test_everything_of_a_cluster_is_under_its_own_names():
    for argv in config.commands(DEV, build.paths_in(Path("/cache")), audit=True).values():
        paths = [word for word in argv if "/state" in word]
        assert all("/state/dev/" in path for path in paths)
    assert config.kubelet(DEV)["cgroupRoot"] == "/slmdev1-dev"
    assert str(DEV.socket) in config.containerd(DEV)


def test_audit_is_off_unless_asked_for():
    binaries = build.paths_in(Path("/cache"))
    assert not [word for word in config.commands(DEV, binaries, audit=False)["kube-apiserver"] if "audit" in word]


def test_the_packages_that_are_missing_are_named_once():
    assert packages.missing({"sh": "dash", "/nowhere/a": "one", "no-such-command": "one", "/nowhere/b": "two"}) == [
        "one",
        "two",
    ]


def test_v1_hierarchies_and_v2_are_told_apart(tmp_path):
    for name in ("cpu", "memory"):
        (tmp_path / name).mkdir()
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpu", tmp_path / "memory"]
    (tmp_path / "cgroup.controllers").touch()
    assert cgroups.hierarchies(tmp_path) == [tmp_path]


def test_a_failed_command_is_one_line_with_its_last_words():
    with pytest.raises(Problem) as caught:
        run(["sh", "-c", "echo first >&2; echo full >&2; exit 3"], what="packing")
    assert str(caught.value) == "packing: sh -c echo first >&2; echo full >&2; exit 3 … exited with 3: full"
    assert last_line("\n \n") == "it printed nothing"


def test_a_missing_command_says_how_to_get_it():
    with pytest.raises(Problem, match=r"no-such-command is not installed.*devcluster build"):
        run(["no-such-command"], what="packing")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["down", "--name", "nope"], "there is no cluster 'nope'"),
        (["kubeconfig", "--name", "NOPE"], "lower-case"),
        (["load", "x.tar", "--name", "nope"], "there is no cluster 'nope'"),
        (["logs", "--name", "nope"], "there is no cluster 'nope'"),
        (["build", "nope"], "there is no binary 'nope'"),
    ],
)
def test_expected_failures_are_one_line_without_a_traceback(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLMFLEET_STATE", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("devcluster: ")
    assert message in error
    assert error.count("\n") == 1


def test_without_root_the_message_names_the_other_way(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["up"]) == 1
    assert "KUBECONFIG" in capsys.readouterr().err


def test_the_help_names_every_command_and_the_way_around(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("up", "down", "load", "kubeconfig", "env", "logs", "volume", "build", "list", "KUBECONFIG", "--kind"):
        assert word in text
