"""One API server a session, with the CRDs applied; one namespace a test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
for folder in (ROOT, Path(__file__).parent):  # devcluster, and the helper module beside this file
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from apiserver import Api, running  # noqa: E402

_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.kube)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A bare API server."""
    with running(tmp_path_factory.mktemp("apiserver")) as api:
        yield api


@pytest.fixture(scope="session")
def api(server: Api) -> Api:
    """An API server that knows the four kinds."""
    crds = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    for crd in crds:
        server.apply(crd)
    for crd in crds:
        server.wait_for_kind("slmfleet.dev/v1alpha1", crd["spec"]["names"]["kind"])
    return server


@pytest.fixture
def namespace(server: Api) -> str:
    name = f"test-{next(_numbers)}"
    server.namespace(name)
    return name
