"""What one API key may send in a minute: fixed windows of the `limits` library over a store of our own.

A store of our own because the library's memory store runs a thread that looks at every key a hundred times a second;
this one is bounded, is swept when it is full, and reads a clock that tests can set. The workers of one gateway count
together (`windows`), its replicas have a part of the limit each.

Not covered: a caller whose connections all end at one replica has that replica's part only; and around the end of a
window up to twice the limit may pass within a minute.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from slmfleet.gateway.errors import ApiError
from slmfleet.gateway.exchange import Header
from slmfleet.gateway.records import ORIGIN_HEADERS
from slmfleet.wire.routes import Limits

KEYS = 10_000
SWEEP_SECONDS = 1.0
BYTES_PER_TOKEN = 4
OVERFLOW = "overflow"
KEYLESS = b""


@dataclass(slots=True)
class _Window:
    used: int
    ends: float


class Windows(Storage):
    """Counts by key for as long as their window is open. Keys beyond the bound share one window."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float], keys: int = KEYS) -> None:
        super().__init__()
        self._clock = clock
        self._keys = keys
        self._windows: dict[str, _Window] = {}
        self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        window = self._find(key)
        if window is None:
            key = key if len(self._windows) < self._keys else OVERFLOW
            window = self._windows[key] = _Window(0, self._clock() + expiry)
        window.used += amount
        return window.used

    def get(self, key: str) -> int:
        window = self._find(key)
        return window.used if window is not None else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends; now, where it has none."""
        window = self._find(key)
        return window.ends if window is not None else self._clock()

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def _find(self, key: str) -> _Window | None:
        now = self._clock()
        window = self._windows.get(key)
        if window is None and len(self._windows) >= self._keys:
            self._sweep(now)
            window = self._windows.get(OVERFLOW) if len(self._windows) >= self._keys else None
        return window if window is not None and window.ends > now else None

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_SECONDS
        self._windows = {key: window for key, window in self._windows.items() if window.ends > now}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller over its limit is told. `what`: requests or tokens."""

    what: str
    error: ApiError
    headers: list[Header]


class RateLimits:
    """Counts of one gateway. Off, and free, until a table has limits."""

    __slots__ = ("_clock", "_limiter", "_requests", "_salt", "_tokens", "on")

    def __init__(self, clock: Callable[[], float], shared: Storage | None = None, salt: bytes | None = None) -> None:
        """`clock`: seconds that only grow. `shared`: where other processes count as well, under the same `salt`."""
        self._clock = clock
        self._limiter = FixedWindowRateLimiter(shared or Windows(clock))
        self._requests: RateLimitItemPerMinute | None = None
        self._tokens: RateLimitItemPerMinute | None = None
        self._salt = salt or secrets.token_bytes(16)
        self.on = False

    def configure(self, spec: Limits | None) -> None:
        """Use this gateway's part of a table's limits. Counts go on; one with another number starts a new window."""
        self._requests = _item(spec.requests_per_minute, spec.replicas, "requests") if spec else None
        self._tokens = _item(spec.tokens_per_minute, spec.replicas, "tokens") if spec else None
        self.on = self._requests is not None or self._tokens is not None

    def refusal(self, headers: Mapping[bytes, bytes]) -> Refusal | None:
        """Count a call of this caller (header names in lower case), and say why it must wait, if it must."""
        who = self._caller(headers)
        if self._requests is not None and not self._limiter.hit(self._requests, who):
            return self._refused("requests", self._requests, who)
        if self._tokens is not None and not self._limiter.test(self._tokens, who):
            return self._refused("tokens", self._tokens, who)
        return None

    def spent(self, headers: Mapping[bytes, bytes], tokens: int, body_bytes: int) -> None:
        """Count a finished call's tokens; where its answer did not say, a token for every four bytes of its body."""
        if self._tokens is not None:
            cost = tokens or body_bytes // BYTES_PER_TOKEN
            self._limiter.hit(self._tokens, self._caller(headers), cost=cost)

    def _caller(self, headers: Mapping[bytes, bytes]) -> str:
        """The caller's key as a hash; the key itself is not kept."""
        key = next((headers[name] for name in ORIGIN_HEADERS if name in headers), KEYLESS)
        return blake2b(key, key=self._salt, digest_size=12).hexdigest()

    def _refused(self, what: str, item: RateLimitItemPerMinute, who: str) -> Refusal:
        seconds = max(self._limiter.get_window_stats(item, who).reset_time - self._clock(), 0.0)
        message = (
            f"Rate limit reached for {what} per minute: limit {item.amount}. Try again in {_duration(seconds)}, or ask "
            "for a higher limit (the Router's spec.limits)."
        )
        headers = [(b"retry-after", b"%d" % max(math.ceil(seconds), 1)), *self._headers(who)]
        return Refusal(what, ApiError(429, message, what, "rate_limit_exceeded"), headers)

    def _headers(self, who: str) -> list[Header]:
        found: list[Header] = []
        for what, item in (("requests", self._requests), ("tokens", self._tokens)):
            if item is None:
                continue
            stats = self._limiter.get_window_stats(item, who)
            left = _duration(max(stats.reset_time - self._clock(), 0.0))
            told = {"limit": str(item.amount), "remaining": str(stats.remaining), "reset": left}
            found += [(f"x-ratelimit-{name}-{what}".encode(), value.encode()) for name, value in told.items()]
        return found


def _item(amount: int | None, replicas: int, namespace: str) -> RateLimitItemPerMinute | None:
    return RateLimitItemPerMinute(-(-amount // replicas), namespace=namespace) if amount is not None else None


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 1m0s, 59.2s, 120ms."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
