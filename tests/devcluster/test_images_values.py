"""Images and environments: what they are made from, and when they are made again."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from devcluster.problem import Problem
from images import build, environments
from images.engine import index_settings
from images.inputs import IMAGES, Image

ROOT = Path(__file__).parents[2]
SMALL = Image("small", "slim", ("src",))
BASES = {"BASE": "debian"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images" / "small").mkdir(parents=True)
    (tmp_path / "images" / "small" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("a = 1\n")
    return tmp_path


def test_an_image_is_the_same_while_its_inputs_are(root):
    before = SMALL.key(root, BASES)
    (root / "README.md").write_text("not in the image")
    (root / "src" / "__pycache__").mkdir()
    (root / "src" / "__pycache__" / "a.pyc").write_text("left by Python")
    assert SMALL.key(root, BASES) == before


@pytest.mark.parametrize("change", ["edit", "rename", "mode", "dockerfile"])
def test_a_changed_input_makes_another_image(root, change):
    before, source = SMALL.key(root, BASES), root / "src" / "a.py"
    {
        "edit": lambda: source.write_text("a = 2\n"),
        "rename": lambda: source.rename(root / "src" / "b.py"),
        "mode": lambda: source.chmod(0o755),
        "dockerfile": lambda: (root / SMALL.dockerfile).write_text("FROM other\n"),
    }[change]()
    assert SMALL.key(root, BASES) != before


def test_another_base_or_argument_makes_another_image(root):
    keys = {SMALL.key(root, arguments) for arguments in (BASES, {"BASE": "other"}, {**BASES, "TORCH": "index"})}
    assert len(keys) == 3


def test_a_missing_source_is_named(root):
    with pytest.raises(Problem, match=r"nowhere is missing.*complete"):
        Image("small", "slim", ("nowhere",)).key(root, BASES)


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.label)
def test_every_file_that_a_dockerfile_copies_is_an_input(image):
    text = (ROOT / image.dockerfile).read_text()
    copied = [
        source.rstrip("/")
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    known = {source for other in IMAGES.values() if other.name == image.name for source in other.sources}
    inside = {source for source in copied if any(source.startswith(f"{other}/") for other in known)}
    assert set(copied) - inside == known
    assert f" AS {image.target}\n" in text
    assert "USER 65532:65532" in text


def test_all_dockerfiles_begin_with_the_same_layer():
    starts = set()
    for name in {name for name, _ in IMAGES}:
        text = (ROOT / "images" / name / "Dockerfile").read_text()
        starts.add(text[text.index("FROM ${BASE} AS system") :].partition("\n\n")[0])
    assert len(starts) == 1


def test_the_scripts_in_the_image_are_those_of_the_project():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, entry in scripts.items():
        module, function = entry.split(":")
        text = (ROOT / "images" / "slmfleet" / "bin" / name).read_text()
        assert f"from {module} import {function}\n" in text
        assert f"sys.exit({function}())" in text


def test_dockerfiles_and_tools_pin_the_same_uv():
    for name in {name for name, _ in IMAGES}:
        lines = (ROOT / "images" / name / "Dockerfile").read_text().splitlines()
        pins = {line for line in lines if line.startswith("ARG UV_VERSION=")}
        assert pins == {f"ARG UV_VERSION={environments.UV_VERSION}"}


def test_only_index_settings_and_proxies_of_the_environment_enter_a_build():
    environ = {"PIP_INDEX_URL": "i", "UV_INDEX_URL": "u", "https_proxy": "p", "PIP_FIND_LINKS": "/w", "AWS_SECRET": "s"}
    assert index_settings(environ) == {"PIP_INDEX_URL": "i", "UV_INDEX_URL": "u", "https_proxy": "p"}


def test_a_base_given_by_the_user_is_taken():
    full = IMAGES["trainer", "full"]
    assert build.build_arguments(full, {}) == {
        "BASE": "localhost/slmfleet/debian:bookworm-slim",
        "BASE_FULL": "localhost/slmfleet/debian:trixie-slim",
    }
    given = build.build_arguments(full, {"BASE": "mine", "TORCH": "index", "HOME": "/"})
    assert (given["BASE"], given["TORCH"], "HOME" in given) == ("mine", "index", False)


def test_too_small_a_disk_is_refused_before_anything_is_built(tmp_path):
    huge = Image("small", "full", (), free_gigabytes=10**6)
    with pytest.raises(Problem, match=r"small \(full\) needs 1000000 GB .*SLMFLEET_CACHE"):
        build.need_free_disk(huge, tmp_path)


def test_an_environment_has_a_new_key_when_its_lock_changes():
    assert environments.key("train", b"a==1") != environments.key("train", b"a==2")
    assert environments.key("train", b"a==1").startswith("train-")


def test_only_the_newest_archives_are_kept(tmp_path):
    for number in range(5):
        path = tmp_path / f"small-slim-{number}.tar"
        path.touch()
        subprocess.run(["touch", "-d", f"@{number}", str(path)], check=True)
    build.forget_old(tmp_path / "small-slim-4.tar", "small-slim-*.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"small-slim-{number}.tar" for number in (2, 3, 4)]


def test_an_unknown_target_is_one_line(tmp_path):
    argv = [sys.executable, "images/build.py", "slmfleet", "--target", "full"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "images: image slmfleet has no target 'full'; it has: slim\n"


def test_no_committed_file_here_names_a_registry_of_packages():
    folders = [ROOT / "devcluster", ROOT / "images", ROOT / "locks", ROOT / "tests" / "clients" / "node"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    hosts = ("pypi" + ".org", "proxy.golang" + ".org", "deb.debian" + ".org", "pythonhosted" + ".org", "npmjs" + ".org")
    assert not [path for path in files if any(host in path.read_text() for host in hosts)]
