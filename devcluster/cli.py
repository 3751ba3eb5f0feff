"""The command line: arguments in, one line of progress or error out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import build, images, node, packages, processes
from devcluster.cluster import cache_root, state_root
from devcluster.problem import Problem
from devcluster.state import clusters, find, find_or_create
from devcluster.volumes import Volume

_EPILOG = """\
examples:
  python3 -m devcluster up                                      a cluster named `dev`, ready in about 15 s
  python3 -m devcluster up --name staging --volume store=/srv/store:rw
  python3 -m devcluster load image.tar --name staging           use an image that no registry has
  export KUBECONFIG=$(python3 -m devcluster kubeconfig --name staging)
  python3 -m devcluster logs kubelet -f
  python3 -m devcluster down --name staging

You have a cluster already? Set KUBECONFIG to it: `make demo` and the end-to-end tests then use that one, and nothing
is built or started here. For images on a kind cluster: `python3 -m devcluster load image.tar --kind NAME`.

needs:  Linux, root, Python 3.11 or newer, Go 1.24 or newer; Debian packages are installed when missing.
cache:  $SLMFLEET_CACHE (~/.cache/slmfleet) keeps the built binaries, keyed by version and source.
state:  $SLMFLEET_STATE (/var/lib/slmfleet-devcluster) has a folder a cluster; `down` removes it. Images take several
        gigabytes there, so it must be on a disk.
volume: a claim names it in `volumeName` and asks for storage class `devcluster`. One volume serves one claim: give the
        same folder under several names for several namespaces. Adding it again frees it of a claim that is gone.
reach:  pods and services have addresses in 198.18.0.0/15 and are reachable from this machine only. Inside there is no
        way out, except to this machine's end of the link (`list` shows it). NetworkPolicies are not enforced.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python3 -m devcluster",
        description="A real one-node Kubernetes on this machine, without Docker: up in seconds, down without a trace.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    name = argparse.ArgumentParser(add_help=False)
    name.add_argument("--name", default="dev", help="which cluster; several may run side by side (default: dev)")

    add = commands.add_parser("up", parents=[name], help="start a cluster, or what is missing of it")
    add.add_argument("--volume", action="append", default=[], type=str, metavar="NAME=HOSTPATH[:ro|:rw]",
                     help="a folder of this machine as a persistent volume; may be repeated; default :ro")  # fmt: skip
    add.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="wait until DNS answers, too")
    add.add_argument("--audit-log", action="store_true", help="write who changed what to log/audit.log")
    add.set_defaults(run=_up)

    add = commands.add_parser("down", parents=[name], help="remove a cluster without a trace")
    add.add_argument("--all", action="store_true", help="all clusters of this state folder")
    add.set_defaults(run=_down)

    add = commands.add_parser("load", parents=[name], help="load image archives (Docker's format, or OCI's)")
    add.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    add.add_argument("--kind", metavar="NAME", help="load into this kind cluster instead")
    add.set_defaults(run=_load)

    add = commands.add_parser("kubeconfig", parents=[name], help="print the path of the administrator's kubeconfig")
    add.set_defaults(run=_kubeconfig)

    add = commands.add_parser("env", parents=[name], help="print shell lines that set KUBECONFIG, and PATH for kubectl")
    add.set_defaults(run=_env)

    add = commands.add_parser("logs", parents=[name], help="print a daemon's log, or the end of every log")
    add.add_argument("component", nargs="?", help="kubelet, kube-apiserver, containerd, …")
    add.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    add.set_defaults(run=_logs)

    add = commands.add_parser("volume", help="add a volume to a running cluster")
    add.add_argument("action", choices=["add"])
    add.add_argument("volume", metavar="NAME=HOSTPATH[:ro|:rw]")
    add.add_argument("--name", default="dev", help="which cluster (default: dev)")
    add.set_defaults(run=_volume)

    add = commands.add_parser("build", help="install packages and build the binaries into the cache, without a cluster")
    add.add_argument("only", nargs="*", metavar="BINARY", help=f"of: {', '.join(build.BINARIES)} (default: all)")
    add.add_argument("--paths", action="store_true", help="print NAME=PATH lines at the end")
    add.set_defaults(run=_build)

    add = commands.add_parser("list", help="list the clusters")
    add.add_argument("--json", action="store_true", help="for a program")
    add.set_defaults(run=_list)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except Problem as problem:
        print(f"devcluster: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("devcluster: interrupted; the same command goes on from here, `down` removes it all", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    return 0


def _up(arguments: argparse.Namespace) -> None:
    _need_root()
    volumes = [Volume.parse(text) for text in arguments.volume]
    packages.ensure(packages.CLUSTER, _say)
    binaries = build.ensure(cache_root(), build.NEEDED_BY_A_CLUSTER, _say)
    helm = build.BINARIES["helm"].path(cache_root())
    started = time.monotonic()
    cluster = find_or_create(state_root(), arguments.name)
    tools = {**binaries, "helm": helm} if helm.exists() else binaries
    new = node.up(cluster, tools, cache_root(), volumes=volumes, audit=arguments.audit_log, wait=arguments.wait)
    word = f"is up after {time.monotonic() - started:.1f} s" if new else "is up already"
    _say(f"cluster {cluster.name} {word}: export KUBECONFIG={cluster.kubeconfig}")


def _down(arguments: argparse.Namespace) -> None:
    _need_root()
    chosen = clusters(state_root()) if arguments.all else [find(state_root(), arguments.name)]
    for cluster in chosen:
        node.down(cluster)
        _say(f"cluster {cluster.name} is gone")


def _load(arguments: argparse.Namespace) -> None:
    for archive in arguments.archives:
        if arguments.kind:
            images.load_into_kind(arguments.kind, archive)
            continue
        for image in images.load(find(state_root(), arguments.name), archive):
            print(image)


def _kubeconfig(arguments: argparse.Namespace) -> None:
    print(find(state_root(), arguments.name).kubeconfig)


def _env(arguments: argparse.Namespace) -> None:
    cluster = find(state_root(), arguments.name)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export PATH={cluster.state}/bin:$PATH")


def _logs(arguments: argparse.Namespace) -> None:
    cluster = find(state_root(), arguments.name)
    known = sorted(path.stem for path in cluster.logs.glob("*.log"))
    if arguments.component and arguments.component not in known:
        raise Problem(f"there is no log of {arguments.component!r}; there are: {', '.join(known)}")
    chosen = [cluster.logs / f"{name}.log" for name in ([arguments.component] if arguments.component else known)]
    lines = "+1" if arguments.component and not arguments.follow else "10"
    follow = ["-F"] if arguments.follow else []
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", lines, *follow, *map(str, chosen)])


def _volume(arguments: argparse.Namespace) -> None:
    node.add_volume(find(state_root(), arguments.name), Volume.parse(arguments.volume))


def _build(arguments: argparse.Namespace) -> None:
    unknown = sorted(set(arguments.only) - set(build.BINARIES))
    if unknown:
        raise Problem(f"there is no binary {unknown[0]!r}; there are: {', '.join(build.BINARIES)}")
    if not arguments.only:
        _need_root()
        packages.ensure(packages.CLUSTER, _say)
    paths = build.ensure(cache_root(), arguments.only or build.BINARIES, _say)
    if arguments.paths:
        print(*(f"{name}={path}" for name, path in paths.items()), sep="\n")
        return
    _say(f"{len(paths)} binaries are in {cache_root() / 'bin'}")


def _list(arguments: argparse.Namespace) -> None:
    rows = [
        {
            "name": each.name,
            "state": _state(each),
            "server": each.server,
            "host": each.addresses.host,
            "kubeconfig": str(each.kubeconfig),
            "dead": processes.dead(each),
        }
        for each in clusters(state_root())
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        dead = f"  dead: {', '.join(row['dead'])}" if row["dead"] else ""
        print(f"{row['name']:20} {row['state']:9} {row['server']:28} this machine is {row['host']}{dead}")


def _state(cluster: node.Cluster) -> str:
    if not processes.init_pid(cluster):
        return "stopped"
    return "ready" if node.is_ready(cluster) else "not ready"


def _need_root() -> None:
    if os.geteuid() != 0:
        raise Problem("root is needed to make namespaces and cgroups: run it with sudo, or set KUBECONFIG to use a "
                      "cluster you have")  # fmt: skip


def _say(line: str) -> None:
    print(line, flush=True)
