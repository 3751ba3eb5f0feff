"""Keeps a file equal to one key of a ConfigMap: how a gateway gets its route table within milliseconds.

A mounted ConfigMap can be a minute late; a watch is not. The file is replaced by rename, so a reader never sees half.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from slmfleet.kube.client import load_client
from slmfleet.wire.packing import unpacked

SERVER_TIMEOUT_SECONDS = 50


def follow(namespace: str, name: str, key: str, target: Path, kubeconfig: str | None = None) -> None:
    """Write the key's value to `target` now and at every change, for ever. Outages are waited out."""
    core = client.CoreV1Api(load_client(kubeconfig))
    pause = 0.2
    while True:
        try:
            _follow_once(core, namespace, name, key, target)
            pause = 0.2
        except ApiException as error:
            print(f"route table {namespace}/{name}: {error.status} {error.reason}; trying again", flush=True)
        except Exception as error:
            print(f"route table {namespace}/{name}: {error}; trying again", flush=True)
        time.sleep(pause)
        pause = min(pause * 2, 5.0)


def _follow_once(core: client.CoreV1Api, namespace: str, name: str, key: str, target: Path) -> None:
    stream = watch.Watch().stream(  # type: ignore[no-untyped-call]
        core.list_namespaced_config_map, namespace, field_selector=f"metadata.name={name}",
        timeout_seconds=SERVER_TIMEOUT_SECONDS, _request_timeout=(5, SERVER_TIMEOUT_SECONDS + 10))
    for event in stream:
        if event["type"] in ("ADDED", "MODIFIED"):
            _write(event["object"], key, target)


def _write(config_map: Any, key: str, target: Path) -> None:
    text = unpacked(key, config_map.data, config_map.binary_data)
    if text is None:
        return
    with contextlib.suppress(OSError):
        if target.read_text(encoding="utf-8") == text:
            return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
