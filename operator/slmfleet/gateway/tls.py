"""The gateway's own certificate, where callers come by TLS. Renewed files are taken up without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

from slmfleet.gateway.log import log


class Certificate:
    """A certificate chain and its key, as PEM files. Raises OSError or ValueError where they are none."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = (chain, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._stamp = self._load()

    def refresh(self) -> None:
        """Take up renewed files, for connections from now on. Where they do not fit, the old ones stay in use."""
        try:
            if self._stamps() == self._stamp:
                return
            self._stamp = self._load()
        except (OSError, ValueError) as error:
            log("error", "CertificateRefused", reason=str(error), effect="the one before stays in use")
            return
        log("info", "CertificateRenewed", path=str(self._files[0]))

    def _load(self) -> tuple[int, ...]:
        stamps = self._stamps()
        chain, key = self._files
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)  # a bad pair must not half change ours
        self.context.load_cert_chain(chain, key)
        return stamps

    def _stamps(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns for file in self._files)
