"""TLS to the LLM: a trusted certificate is accepted, any other is refused with what to do. TLS from callers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_fakes import Caller, FakeLlm, Rig, chat, classifier_from, fingerprint

from slmfleet.gateway import upstream
from slmfleet.gateway.server import Gateway


def write_certificate(path: Path, serial: int) -> None:
    """A self-signed certificate for localhost and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))


def write_nonsense(path: Path) -> None:
    path.write_text("nonsense", encoding="utf-8")


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "certificate.pem"
    write_certificate(path, 1)
    upstream._tls_context.cache_clear()
    yield path
    upstream._tls_context.cache_clear()


async def test_callers_may_come_by_tls_and_a_renewed_certificate_is_taken_up(
    rig: Rig, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = dataclasses.replace(rig.gateway.options, tls=(certificate, certificate))
    await rig.gateway.stop()
    rig.gateway = Gateway(options, load=classifier_from, fingerprint=fingerprint)
    await rig.gateway.start()
    host, _, port = rig.gateway.address.rpartition(":")

    async def serial() -> str:
        trust = ssl.create_default_context(cafile=str(certificate))
        streams = await asyncio.open_connection(host, int(port), ssl=trust, server_hostname="localhost")
        caller = Caller(*streams)
        data = json.dumps(chat("hi")).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(data)
        caller.send(head + data)
        assert (await caller.answer()).status == 200
        peer = caller.writer.get_extra_info("peercert")
        caller.close()
        await caller.writer.wait_closed()
        return str(peer["serialNumber"])

    assert await serial() == "01"
    write_certificate(certificate, 2)
    rig.gateway._certificate.refresh()
    assert await serial() == "02"
    write_nonsense(certificate)
    rig.gateway._certificate.refresh()
    assert "CertificateRefused" in capsys.readouterr().out
    plain = await rig.connect()
    plain.send(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert await plain.reader.read() == b""
    plain.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_llms_certificate_is_checked(
    rig: Rig, certificate: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    llm = FakeLlm()
    await llm.start(context)
    await rig.use({**rig.content, "version": 2, "llm": {"url": f"{llm.url}/v1"}})
    answer = await rig.post(chat("hi"))
    assert answer.status == (200 if trusted else 502)
    if not trusted:
        assert "TLS failed" in answer.json["error"]["message"]
    await llm.stop()
