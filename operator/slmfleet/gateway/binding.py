"""Sockets that listen on every address of the machine: IPv4 and IPv6 at once, or IPv4 alone where there is no IPv6.

Apart, since asyncio opens one socket a family for that, each with a port of its own where none is named, and gives up
where one family is off. `0.0.0.0` stays what it says: IPv4 alone.
"""

from __future__ import annotations

import errno
import socket

EVERYWHERE = ("", "::")
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})


def everywhere(port: int, *, shared: bool = False) -> socket.socket:
    """A socket that is bound to a port of every address and does not listen yet. `shared`: other processes may bind
    it, too. Raises OSError."""
    try:
        return _bound(socket.AF_INET6, "::", port, shared)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _bound(socket.AF_INET, "0.0.0.0", port, shared)


def _bound(family: socket.AddressFamily, host: str, port: int, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def plain(peer: str) -> str:
    """A caller's address: of an IPv4 caller on such a socket, without what marks it (::ffff:10.0.0.1, RFC 4291)."""
    return peer.removeprefix("::ffff:")
