"""Hosts and ports as one text, as RFC 3986 writes them: an IPv6 address stands in brackets."""

from __future__ import annotations


def authority(host: str, port: int) -> str:
    """HOST:PORT, of a URL or a listener. `host`: a name or an address, without brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of HOST:PORT; a host that is empty stays so. Raises ValueError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdigit()) or (":" in bare and bare == host):
        raise ValueError(f"not HOST:PORT: {text!r}" + (": an IPv6 address stands in brackets" if ":" in host else ""))
    return bare, int(port)
