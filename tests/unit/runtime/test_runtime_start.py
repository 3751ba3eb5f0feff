"""Which addresses a pool's server listens on, in the words that Triton takes."""

from pathlib import Path

import pytest
import start

PLACES = {"triton": Path("/t"), "folder": Path("/f")}


@pytest.mark.parametrize(
    ("variables", "http", "grpc"),
    [
        ({}, "0.0.0.0", "0.0.0.0"),
        ({"SLM_POD_IP": "10.0.0.9"}, "0.0.0.0", "0.0.0.0"),
        ({"SLM_POD_IP": "fd00::9"}, "ipv6:::", "[::]"),
        ({"SLM_POD_IP": "fd00::9", "SLM_HOST": "127.0.0.1"}, "127.0.0.1", "127.0.0.1"),
        ({"SLM_HOST": "fd00::7"}, "ipv6:fd00::7", "[fd00::7]"),
    ],
)
def test_the_server_listens_by_the_family_of_its_pod(variables, http, grpc, monkeypatch):
    for name in ("SLM_POD_IP", "SLM_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = start.server_command(start.parse_arguments(["--base", "/b"]), **PLACES)
    told = dict(part[2:].split("=", 1) for part in command[1:] if "=" in part)
    assert (told["http-address"], told["metrics-address"], told["grpc-address"]) == (http, http, grpc)
