"""Start Triton with the model `slm`: lay out a model repository in $TMPDIR, then become tritonserver.

    /path/to/env/bin/python start.py --base /store/bases/tiny

Writes nowhere but there, so the root file system and the environment may be read-only. Options and variables: README.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import string
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

RUNTIME = Path(__file__).resolve().parent
DTYPES, DEVICES = ("float32", "bfloat16", "float16"), ("cpu", "cuda")


def main() -> None:
    options = parse_arguments()
    try:
        triton = find_triton()
        stub = find_stub(triton)
        libraries = library_path(triton)
        folder = lay_out(options, triton, stub)
    except (OSError, LookupError) as error:
        raise SystemExit(f"start.py: {error}") from None
    command = server_command(options, triton, folder)
    print(f"start.py: {options.base}, {options.slots} slots, ports {ports(options)}", flush=True)
    os.execve(command[0], command, environment(libraries, options.threads or usable_cpus()))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="start.py", description=__doc__.split("\n\n")[0])

    def option(flag: str, variable: str, default: object, kind: type = int, choices: object = None) -> None:
        text = os.environ.get(variable)
        parser.add_argument(flag, type=kind, choices=choices, default=default if text is None else text, help=variable)

    option("--base", "SLM_BASE_PATH", None, str)
    option("--slots", "SLM_SLOTS", 32)
    option("--max-rank", "SLM_MAX_RANK", 16)
    option("--max-batch", "SLM_MAX_BATCH", 32)
    option("--max-waiting", "SLM_MAX_WAITING", 512)
    option("--threads", "SLM_THREADS", 0)
    option("--dtype", "SLM_DTYPE", "float32", str, DTYPES)
    option("--device", "SLM_DEVICE", "cpu", str, DEVICES)
    # Triton's HTTP server listens on one family: that of the address which the kubelet and the gateways use.
    option("--host", "SLM_HOST", "::" if ":" in os.environ.get("SLM_POD_IP", "") else "0.0.0.0", str)
    option("--http-port", "SLM_HTTP_PORT", 8000)
    option("--grpc-port", "SLM_GRPC_PORT", 8001)
    option("--metrics-port", "SLM_METRICS_PORT", 8002)
    option("--exit-timeout-seconds", "SLM_EXIT_TIMEOUT_SECONDS", 30)
    options = parser.parse_args(arguments)
    if not options.base:
        parser.error("--base or SLM_BASE_PATH is needed: the folder of the base model")
    for name, least in (("slots", 1), ("max_rank", 1), ("max_batch", 1), ("max_waiting", 1), ("threads", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be {least} or more")
    return options


def usable_cpus() -> int:
    """CPUs of this process: its affinity, and its control group's quota where there is one."""
    cpus = len(os.sched_getaffinity(0))
    for quota_file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        try:
            numbers = Path(quota_file).read_text(encoding="utf-8").split()
            numbers += Path(period_file).read_text(encoding="utf-8").split() if period_file else []
            quota, period = float(numbers[0]), float(numbers[1])
        except (OSError, ValueError, IndexError):
            continue  # another version of control groups, or no limit ("max")
        if quota > 0:
            return max(1, min(cpus, math.ceil(quota / period)))
    return cpus


def find_triton() -> Path:
    """The server inside the nvidia-pytriton wheel of this environment."""
    found = find_spec("pytriton")
    if found is None or not found.origin:
        raise LookupError(f"{sys.executable} has no nvidia-pytriton; run me with the serving environment's python")
    return Path(found.origin).parent / "tritonserver"


def find_stub(triton: Path) -> Path:
    """The process that runs model.py, built for this Python's version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise LookupError(f"no Triton stub for Python {version} in {stub.parent.parent}; use another Python")
    return stub


def library_path(triton: Path) -> str:
    """Where the stub finds libpython and the wheel's own libraries."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    home = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    places = [Path(sys.base_prefix) / "lib", home, home / (sysconfig.get_config_var("MULTIARCH") or "")]
    found = next((place for place in places if (place / name).exists()), None)
    if found is None:
        raise LookupError(f"{name} is not in {', '.join(map(str, places))}; install it (Debian: libpython3.x)")
    kept = [part for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if part]
    return os.pathsep.join([str(triton.parent.parent / "nvidia_pytriton.libs"), str(found), *kept])


def lay_out(options: argparse.Namespace, triton: Path, stub: Path) -> Path:
    """A folder in $TMPDIR with `models` (config.pbtxt filled in, model.py linked) and `backends`.

    The wheel carries a stub for each version of Python, none where its server looks for one; and the environment may be
    read-only. So the Python backend is put together here, from links.
    """
    folder = Path(tempfile.mkdtemp(prefix="slm-"))
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for part in [*(triton / "backends" / "python").iterdir(), stub]:
        if not (backend / part.name).is_symlink() and part.is_file():
            (backend / part.name).symlink_to(part)
    model = folder / "models" / "slm"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").symlink_to(RUNTIME / "slm" / "1" / "model.py")
    settings = {
        name: getattr(options, name)
        for name in ("base", "slots", "max_rank", "max_batch", "max_waiting", "threads", "dtype", "device")
    }
    template = string.Template((RUNTIME / "slm" / "config.pbtxt").read_text(encoding="utf-8"))
    filled = template.safe_substitute(runtime=json.dumps(str(RUNTIME)), settings=json.dumps(json.dumps(settings)))
    (model / "config.pbtxt").write_text(filled, encoding="utf-8")
    return folder


def server_command(options: argparse.Namespace, triton: Path, folder: Path) -> list[str]:
    ipv6 = ":" in options.host
    http = f"ipv6:{options.host}" if ipv6 else options.host
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={folder / 'models'}",
        "--model-control-mode=explicit",
        "--load-model=slm",
        "--disable-auto-complete-config",
        f"--backend-directory={folder / 'backends'}",
        f"--cache-directory={triton / 'caches'}",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={options.exit_timeout_seconds}",
        f"--http-address={http}",
        f"--grpc-address={f'[{options.host}]' if ipv6 else options.host}",
        f"--metrics-address={http}",
        f"--http-port={options.http_port}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-port={options.metrics_port}",
        "--log-format=ISO8601",
    ]
    if key := os.environ.get("SLMFLEET_CONTROL_KEY"):
        restricted = f"model-repository,shared-memory,trace,logging:slmfleet-control={key}"
        command += [f"--grpc-restricted-protocol={restricted}", f"--http-restricted-api={restricted}"]
    return command


def environment(libraries: str, threads: int) -> dict[str, str]:
    """The stub takes the environment of the first `python3` on PATH, and no locale: UTF-8 is set explicitly."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": libraries,
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait starve their neighbours on a shared node
    }


def ports(options: argparse.Namespace) -> str:
    return f"{options.http_port} http, {options.grpc_port} grpc, {options.metrics_port} metrics"


if __name__ == "__main__":
    main()
