"""Command lines and configuration files of the cluster's daemons: texts only, nothing here runs anything.

The settings are for two cores that also train and serve: few wake-ups, no fsync, no leader election among one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster

PAUSE_IMAGE = "localhost/slmfleet/pause:1"


def files(cluster: Cluster) -> dict[Path, str]:
    """Every configuration file, by path."""
    state = cluster.state
    return {
        state / "containerd.toml": containerd(cluster),
        state / "cni" / "10-bridge.conflist": json.dumps(cni(cluster)),
        state / "kubelet.json": json.dumps(kubelet(cluster)),
        state / "kube-proxy.json": json.dumps(kube_proxy(cluster)),
        state / "audit-policy.json": json.dumps(AUDIT_POLICY),
    }


def commands(cluster: Cluster, binaries: Mapping[str, Path], audit: bool) -> dict[str, list[str]]:
    """Command lines by name, in the order in which they start."""
    state, pki, where = cluster.state, cluster.pki, cluster.addresses
    return {
        "containerd": ["containerd", "--config", f"{state}/containerd.toml"],
        "etcd": [
            str(binaries["etcd"]),
            "--name=devcluster",
            f"--data-dir={state}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        "kube-apiserver": [
            str(binaries["kube-apiserver"]),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={where.node}",
            f"--service-cluster-ip-range={where.services}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--service-account-key-file={pki}/service-accounts.key",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # As in any cluster: what a namespace allows is for Pod Security to say.
            "--allow-privileged=true",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            # By the node's name, `kubectl logs` and `exec` would fail: nobody resolves it.
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
            *(_audit_flags(cluster) if audit else ()),
        ],
        "kube-controller-manager": [
            str(binaries["kube-controller-manager"]),
            f"--kubeconfig={pki}/kube-controller-manager.kubeconfig",
            f"--service-account-private-key-file={pki}/service-accounts.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            "--use-service-account-credentials",
            "--allocate-node-cidrs=false",
            "--leader-elect=false",
            # Training may starve the kubelet of CPU for a while; that must not evict anything.
            "--node-monitor-grace-period=180s",
            "--profiling=false",
        ],
        "kube-scheduler": [
            str(binaries["kube-scheduler"]),
            f"--kubeconfig={pki}/kube-scheduler.kubeconfig",
            "--leader-elect=false",
            "--profiling=false",
        ],
        "kubelet": [
            str(binaries["kubelet"]),
            f"--kubeconfig={pki}/kubelet.kubeconfig",
            f"--config={state}/kubelet.json",
            f"--hostname-override={cluster.name}",
            f"--root-dir={state}/kubelet",
            f"--node-ip={where.node}",
            "--v=0",
        ],
        "kube-proxy": [str(binaries["kube-proxy"]), f"--config={state}/kube-proxy.json"],
    }


def containerd(cluster: Cluster) -> str:
    state = cluster.state
    unused = ("btrfs", "zfs", "aufs", "devmapper")
    return f"""version = 2
root = "{state}/containerd/root"
state = "{state}/containerd/state"
disabled_plugins = [{", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in unused)}]
[debug]
  level = "warn"
[grpc]
  address = "{cluster.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without it runc dies with "can't get final child's PID" where the caller may not lower its OOM score.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/cni"
"""


def cni(cluster: Cluster) -> dict[str, Any]:
    ranges = [[{"subnet": cluster.addresses.pods}]]
    address_management = {
        "type": "host-local",
        "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{cluster.state}/cni-addresses",
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    return {
        "cniVersion": "1.0.0",
        "name": "devcluster",
        "plugins": [{**bridge, "ipam": address_management}, ports],
    }


def kubelet(cluster: Cluster) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{cluster.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{cluster.pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{cluster.pki}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{cluster.socket}",
        "podLogsDir": f"{cluster.state}/pod-logs",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cluster.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [cluster.addresses.dns_service],
        "clusterDomain": "cluster.local",
        "resolvConf": "/dev/null",
        "maxPods": 60,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "20s",
        "volumeStatsAggPeriod": "5m",
    }


def kube_proxy(cluster: Cluster) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{cluster.pki}/kube-proxy.kubeconfig"},
        "clusterCIDR": cluster.addresses.pods,
        "mode": "iptables",
        "hostnameOverride": cluster.name,
        "conntrack": {"maxPerCore": 0},
    }


def _audit_flags(cluster: Cluster) -> tuple[str, ...]:
    return (
        f"--audit-policy-file={cluster.state}/audit-policy.json",
        f"--audit-log-path={cluster.logs}/audit.log",
        "--audit-log-maxsize=200",
    )


# Who changed what: whole requests for our own kinds, one line for other writes and for all that a pod's account asks,
# nothing for other reads.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "RequestResponse",
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            "resources": [{"group": "slmfleet.dev"}],
        },
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "Metadata"},
    ],
}
