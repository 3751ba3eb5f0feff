"""`slmfleet gateway`: serve a route table, watched for changes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from slmfleet.gateway.otlp import Collector


def gateway(
    table: Annotated[Path, typer.Option("--table", help="Route table, YAML or JSON; watched, may not exist yet.")],
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT of the OpenAI API; [::] is every address, IPv4 too.")
    ] = "[::]:8080",
    admin: Annotated[str, typer.Option("--admin", help="HOST:PORT of health, metrics and signals.")] = "[::]:9090",
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Folder of the store: the log goes there, the classifier comes from it."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes on one port.")] = 1,
    origin_key_file: Annotated[
        Path | None,
        typer.Option("--origin-key-file", help="Key under which origins are hashed; absent: a new one each start."),
    ] = None,
    drain_seconds: Annotated[float, typer.Option("--drain-seconds", help="Bound on the drain after SIGTERM.")] = 20.0,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", help="PEM chain for TLS on --listen; needs --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM key of --tls-certificate.")] = None,
    capture_buffer_bytes: Annotated[
        int | None,
        typer.Option("--capture-buffer-bytes", min=1, help="In place of the table's capture.buffer_bytes."),
    ] = None,
    access_log_percent: Annotated[
        float, typer.Option("--access-log-percent", min=0, max=100, help="Share of calls with a line on stdout.")
    ] = 0.0,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            "--otlp-endpoint", envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="OTLP/HTTP base URL for spans and metrics."
        ),
    ] = None,
    trace_percent: Annotated[
        float, typer.Option("--trace-percent", min=0, max=100, help="Share of traces begun here that are sampled.")
    ] = 100.0,
) -> None:
    """Serve a route table: specialists first, the LLM behind them."""
    if not 1 <= workers <= 64:
        _fail(f"--workers {workers}: give a number from 1 to 64, at most one per core")
    # Before numpy is loaded: its matrix library would spread each call's few rows over threads that spin for more.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import uvloop

        from slmfleet.gateway.server import Options, Seeing, serve
        from slmfleet.gateway.workers import Supervisor
    except ImportError as error:
        _fail(f"the gateway needs {error.name}, which is not installed; install slmfleet[gateway]")
    options = Options(
        table=table,
        listen=listen,
        admin=admin,
        store=store,
        origin_key=_origin_key(origin_key_file),
        drain_seconds=drain_seconds,
        capture_buffer_bytes=capture_buffer_bytes,
        tls=_tls(tls_certificate, tls_key),
        seeing=Seeing(access_log_percent, _collector(otlp_endpoint), trace_percent),
    )
    from slmfleet.recognise import Classifier, frame_fingerprint

    try:
        if workers > 1:
            uvloop.run(Supervisor(options, workers, load=Classifier.load, fingerprint=frame_fingerprint).run())
            return
        uvloop.run(serve(options, load=Classifier.load, fingerprint=frame_fingerprint))
    except (OSError, ValueError) as error:
        _fail(f"--listen {listen} or --admin {admin} cannot be opened: {error}; choose free ports")


def _tls(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        _fail("--tls-certificate and --tls-key belong together; give both")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        _fail(f"--tls-certificate {certificate} and --tls-key {key} cannot be used: {error}; check both PEM files")
    return certificate, key


def _collector(endpoint: str | None) -> Collector | None:
    """The collector with what OpenTelemetry's own environment variables say of it; None where none is named."""
    if not endpoint:
        return None
    from slmfleet.gateway.otlp import collector_from

    try:
        return collector_from(endpoint, os.environ)
    except ValueError as error:
        _fail(str(error))


def _origin_key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        _fail(f"--origin-key-file {path} cannot be read: {error.strerror}; check that the file is mounted")
    if len(key) < 16:
        _fail(f"--origin-key-file {path} is shorter than 16 bytes; write at least 16 random bytes into it")
    return key


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
