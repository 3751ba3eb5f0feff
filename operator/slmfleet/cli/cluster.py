"""The cluster that a person's command speaks to: the kubeconfig's, in its namespace unless another is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmfleet.cli.problem import fail

if TYPE_CHECKING:
    from slmfleet.kube.client import Kube


def connect(namespace: str | None, kubeconfig: str | None) -> Kube:
    """A client, or one line that says what is missing."""
    from kubernetes import config

    from slmfleet.kube.client import Kube, load_client

    try:
        return Kube(load_client(kubeconfig), namespace or _namespace(config, kubeconfig))
    except Exception as error:
        fail(f"no cluster: {error}; set KUBECONFIG or --kubeconfig")


def _namespace(config: Any, kubeconfig: str | None) -> str:
    try:
        active = config.list_kube_config_contexts(config_file=kubeconfig)[1]
    except config.ConfigException:
        return "default"
    return str(active["context"].get("namespace") or "default")
