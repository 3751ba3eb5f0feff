"""The RayJob against KubeRay's own published schemas, with strict field validation: a wrong or old field is an error.

What is not covered: KubeRay itself. Its limits that no schema states (a name of at most 47 characters) are tested in
tests/unit/plan.
"""

from __future__ import annotations

import copy
import gzip
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import Api, Refused

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SLMFLEET_DATA") or ROOT / ".." / "shared" / "data") / "kuberay"
GOLDEN = ROOT / "tests" / "golden" / "plan" / "rayjob-train.yaml"


@pytest.fixture(scope="module")
def kuberay(server: Api) -> Api:
    files = sorted(DATA.glob("*.yaml.gz"))
    if not files:
        pytest.skip(f"KubeRay's CRDs are not in {DATA.name}/ of SLMFLEET_DATA (or ../shared/data beside the checkout)")
    for file in files:
        crd = yaml.load(gzip.decompress(file.read_bytes()), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        server.apply(crd)
    server.wait_for_kind("ray.io/v1", "RayJob")
    return server


def ray_job(namespace: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(GOLDEN.read_text())
    made["metadata"]["namespace"] = namespace
    return made


def test_kuberays_schema_takes_the_ray_job(kuberay: Api, namespace: str) -> None:
    once = kuberay.apply(ray_job(namespace))
    assert once.warnings == ()
    again = kuberay.apply(ray_job(namespace)).object
    assert again["metadata"]["resourceVersion"] == once.object["metadata"]["resourceVersion"]


WRONG: list[tuple[str, Any, str]] = [
    ("entryPoint", "python", "entryPoint"),
    ("submissionMode", 7, "submissionMode"),
    ("backoffLimit", "three", "backoffLimit"),
    ("rayClusterSpec", {"rayVersion": "2"}, "headGroupSpec"),
]


@pytest.mark.parametrize("field, value, named", WRONG)
def test_the_schema_is_one_that_refuses(kuberay: Api, namespace: str, field: str, value: Any, named: str) -> None:
    """Or the test above would prove nothing."""
    wrong = copy.deepcopy(ray_job(namespace))
    wrong["spec"][field] = value
    with pytest.raises(Refused, match=named):
        kuberay.apply(wrong, dry_run=True)
