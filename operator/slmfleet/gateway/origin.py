"""A server's address. Apart, so that what only compares servers loads no HTTP parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from slmfleet.wire.addresses import authority


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: where its connections go."""

    host: str
    port: int
    tls: bool
    host_header: bytes = field(init=False, compare=False)  # with the port where it is not the scheme's own

    def __post_init__(self) -> None:
        whole = authority(self.host, self.port)
        own_port = self.port == (443 if self.tls else 80)
        header = whole.removesuffix(f":{self.port}") if own_port else whole
        object.__setattr__(self, "host_header", header.encode())

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{authority(self.host, self.port)}"


def parse_url(url: str) -> tuple[Origin, bytes]:
    """An http(s) URL as origin and path (no trailing slash). Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {url[:200]!r}")
    if parts.username or parts.query or parts.fragment:
        raise ValueError(f"a URL here has no user, query or fragment: {url[:200]!r}")
    tls = parts.scheme == "https"
    return Origin(parts.hostname, parts.port or (443 if tls else 80), tls), parts.path.rstrip("/").encode()
