"""TLS to the LLM: a trusted certificate is accepted, any other is refused with what to do."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_fakes import FakeLlm, Rig, chat

from slmfleet.gateway import upstream


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    upstream._tls_context.cache_clear()
    yield path
    upstream._tls_context.cache_clear()


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
