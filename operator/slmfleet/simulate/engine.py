"""One server's engine: continuous batching, as a queue whose speed depends on how many calls are in the batch.

A call waits for a slot in order of arrival, then for its prompt's turn. Prompts are read one after another, and answers
stand still meanwhile (as in engines without chunked prefill). The end of the prompt is the first token; the others come
at the batch's rate, which all calls of the batch share alike. Exact between events: one counter of tokens that every
call in the batch has got ("virtual time" of processor sharing) and a heap of the counts at which calls end.

Not modelled: memory for keys and values (no preemption), prefix caches, chunked prefill, speculative decoding, noise.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf


@dataclass(slots=True, eq=False)
class Job:
    """A call inside an engine. `first_token_at` is set by the engine, in seconds."""

    input_tokens: int
    output_tokens: int
    first_token_at: float = -1.0


class Engine:
    """`prefill_rate`: prompt tokens a second. `rates`: tokens a second of one call by calls in the batch."""

    __slots__ = ("_at", "_count", "_decoding", "_got", "_prefill_ends", "_prefill_rate", "_prefilling", "_queue",
                 "_rates", "_slots", "busy_seconds")

    def __init__(self, prefill_rate: float, rates: list[float]) -> None:
        self._prefill_rate = prefill_rate
        self._rates = rates
        self._slots = len(rates) - 1
        self._queue: deque[Job] = deque()
        self._prefilling: deque[Job] = deque()
        self._decoding: list[tuple[float, int, Job]] = []
        self._prefill_ends = inf
        self._got = 0.0
        self._at = 0.0
        self._count = 0
        self.busy_seconds = 0.0

    def add(self, job: Job, now: float) -> None:
        """A call arrives."""
        self._advance(now)
        self._queue.append(job)
        self._admit(now)

    def due(self) -> float:
        """When something happens next, if nothing is added: seconds, or infinity."""
        if self._prefilling:
            return self._prefill_ends
        if self._decoding:
            return self._at + (self._decoding[0][0] - self._got) / self._rates[len(self._decoding)]
        return inf

    def step(self, now: float) -> list[Job]:
        """What is due happens: calls that ended, in order."""
        if self._prefilling:
            self._advance(now)
            ended = self._end_prompt(now)
        else:
            self.busy_seconds += now - self._at
            self._at = now
            self._got = self._decoding[0][0]
            ended = []
            while self._decoding and self._decoding[0][0] <= self._got:
                ended.append(heappop(self._decoding)[2])
            if not self._decoding:
                self._got = 0.0  # so that it stays small, and exact
        self._admit(now)
        return ended

    def cancel(self, job: Job, now: float) -> None:
        """The caller gave up: its place is free at once."""
        self._advance(now)
        if job in self._queue:
            self._queue.remove(job)
        elif job in self._prefilling:
            reading = self._prefilling[0] is job
            self._prefilling.remove(job)
            if reading:
                self._begin_prompt(now)
        else:
            self._decoding = [entry for entry in self._decoding if entry[2] is not job]
            heapify(self._decoding)
        self._admit(now)

    def _advance(self, now: float) -> None:
        passed = now - self._at
        if self._prefilling:
            self.busy_seconds += passed
        elif self._decoding:
            self.busy_seconds += passed
            self._got += passed * self._rates[len(self._decoding)]
        self._at = now

    def _admit(self, now: float) -> None:
        while self._queue and len(self._prefilling) + len(self._decoding) < self._slots:
            self._prefilling.append(self._queue.popleft())
            if len(self._prefilling) == 1:
                self._begin_prompt(now)

    def _begin_prompt(self, now: float) -> None:
        self._prefill_ends = now + self._prefilling[0].input_tokens / self._prefill_rate if self._prefilling else inf

    def _end_prompt(self, now: float) -> list[Job]:
        job = self._prefilling.popleft()
        self._begin_prompt(now)
        job.first_token_at = now
        if job.output_tokens <= 1:
            return [job]
        self._count += 1
        heappush(self._decoding, (self._got + job.output_tokens - 1, self._count, job))
        return []
