"""What happens to a request: by path, by owner, by arm; who answers, what is counted, what is logged."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slmfleet.gateway import answers, errors, generalist, llm, models, shadow
from slmfleet.gateway.arms import LLM, Arm, choose, sampled
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.call import Call, Calls, request_id, safe
from slmfleet.gateway.capture import Capture
from slmfleet.gateway.counters import Counters
from slmfleet.gateway.decide import NOBODY, Chosen, decide
from slmfleet.gateway.exchange import JSON, Exchange
from slmfleet.gateway.llm import Outcome
from slmfleet.gateway.ratelimit import RateLimits
from slmfleet.gateway.relay import REQUEST_ID, SSE_FACTOR
from slmfleet.gateway.rules import by_hand
from slmfleet.gateway.seeing import Watch
from slmfleet.gateway.specialist import Specialists
from slmfleet.gateway.table import CompiledRoute, Fingerprint, Table
from slmfleet.gateway.upstream import Client
from slmfleet.wire.routes import Revision

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")  # TRACE would show the Router's key
_CLIMBING = re.compile(rb"(?:^|/|%2f)(?:\.|%2e){1,2}(?:$|/|%2f)", re.IGNORECASE)
_FAILED = {"error": 502, "timeout": 504}


@dataclass(slots=True)
class App:
    """The handler of the public port. `table` is replaced as a whole; a call keeps the one it began with."""

    client: Client
    counters: Counters
    specialists: Specialists
    generalists: generalist.Generalists
    shadows: shadow.Shadow
    capture: Capture
    calls: Calls
    clock: Callable[[], float]
    limits: RateLimits
    fingerprint: Fingerprint | None = None
    table: Table | None = None
    watch: Watch | None = None

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        try:
            await self._route(exchange)
        except errors.ApiError as error:
            headers = [(REQUEST_ID, request_id(exchange.request, self.calls.next_id()))]
            if error.status == 405:
                headers.append((b"allow", b", ".join(METHODS)))
            exchange.fail(error, headers)
        finally:
            if exchange.status >= 500:
                self.counters.client_errors += 1
            if self.watch is not None:
                self.watch.ended(exchange)

    def swap(self, table: Table) -> None:
        """Route by another table from the next call on."""
        self.table = table
        self.counters.table_version = table.spec.version
        reference = table.spec.classifier
        self.counters.classifier = reference.digest if reference is not None and table.classifier is not None else None
        self.capture.configure(table.spec.capture, table.spec.router)
        self.limits.configure(table.spec.limits)

    async def _route(self, exchange: Exchange) -> None:
        http = exchange.request
        path = http.path
        if not path.startswith(b"/v1/") or _CLIMBING.search(path):
            raise errors.not_found(path.decode("latin-1"))
        if http.method not in METHODS:
            raise errors.method_not_allowed(http.method.decode("latin-1"), b", ".join(METHODS).decode())
        table = self.table
        if table is None:
            raise errors.no_table()
        call = self.calls.begin(http, table)
        if self.watch is not None:
            self.watch.begun(exchange, call)
        if self.limits.on and call.api is not None and (refusal := self.limits.refusal(http.lookup)):
            self.counters.rate_limited[refusal.what] += 1
            exchange.fail(refusal.error, [*refusal.headers, (REQUEST_ID, request_id(http, call.id))])
            return
        specialist = models.named(call)
        if specialist is not None:
            models.send_one(exchange, call, specialist)
            return
        if models.lists(call):
            await models.send_list(self.client, exchange, call)
            return
        if call.api != "chat.completions":
            await self._llm(exchange, call)
            return
        ruled = by_hand(table, call.request, http.lookup) if table.rules else None
        chosen = ruled or (decide(table, call.request, self.fingerprint) if table.by_name else NOBODY)
        self.counters.decisions[chosen.rule] += 1
        call.note += _note(chosen)
        if chosen.route is None or call.request is None:
            self.counters.unowned_calls += 1
            await self._unowned(exchange, call, chosen)
            return
        await self._owned(exchange, call, chosen.route, call.request)

    async def _unowned(self, exchange: Exchange, call: Call, chosen: Chosen) -> None:
        takes = generalist.takes(call.table.spec.generalist, call, chosen)
        if not takes or not await self.generalists.answered(exchange, call, self._captures(call)):
            await self._llm(exchange, call)

    # --- a call that a specialist owns ---

    async def _owned(self, exchange: Exchange, call: Call, route: CompiledRoute, request: dict[str, Any]) -> None:
        arm, revision = choose(route.spec, call.conversation)
        self.counters.arm(route.spec.name, revision.name if revision else LLM).assigned += 1
        call.note.append(f"arm={arm}")
        if revision is not None:
            call.note.append(f"revision={safe(revision.name)}")
            attempt = await self.specialists.attempt(
                call.table, route, revision, request, call.trace_headers(), deadline=call.deadline, waits=True
            )
            self._count_attempt(call, route, revision, attempt)
            if attempt.hedge:
                call.note.append(f"hedge={attempt.hedge}")
            if attempt.result == "served" and attempt.answer is not None:
                self._answer(exchange, call, route, revision, attempt.answer, attempt.latency_seconds)
                self._offer_shadow(call, route, arm, exchange_body(call, attempt.answer, route), None, streamed=False)
                return
            stands_in = generalist.stands_in(call.table.spec.generalist, call)
            self._escalate(call, route, revision, attempt, "generalist" if stands_in else "llm")
            if stands_in and await self.generalists.answered(exchange, call, self._captures(call)):
                return
        outcome = await self._llm(exchange, call)
        if arm == LLM:
            self._count_llm_arm(call, route, outcome)
        if outcome.status == 200 and outcome.response is not None and not outcome.cut and arm == LLM:
            self._offer_shadow(call, route, arm, outcome.response, outcome.encoding, streamed=outcome.streamed)

    def _answer(
        self,
        exchange: Exchange,
        call: Call,
        route: CompiledRoute,
        revision: Revision,
        answer: answers.Answer,
        seconds: float,
    ) -> None:
        assert call.request is not None
        model, created = str(call.request.get("model") or route.spec.name), int(call.time)
        headers = call.own_headers("specialist")
        streamed = bool(call.request.get("stream"))
        if streamed:
            usage = answers.wants_usage(call.request)
            body = answers.events(answer, call_id=call.id, created=created, model=model, include_usage=usage)
            exchange.send(200, [answers.EVENT_STREAM, (b"cache-control", b"no-cache"), *headers], body)
        else:
            body = answers.completion(answer, call_id=call.id, created=created, model=model)
            exchange.send(200, [JSON, *headers], body)
        tier = self.counters.tiers["specialist"]
        tier.calls += 1
        tier.input_tokens += answer.input_tokens
        tier.output_tokens += answer.output_tokens
        tier.latency.observe(self.clock() - call.started)
        self._spent(call, answer.input_tokens + answer.output_tokens)
        if self._captures(call):
            self.capture.add(
                call.logged(
                    tier="specialist",
                    status=200,
                    latency_seconds=seconds,
                    response=exchange_body(call, answer, route),
                    specialist=route.spec.name,
                    revision=revision.name,
                    streamed=streamed,
                )
            )

    def _escalate(self, call: Call, route: CompiledRoute, revision: Revision, attempt: Attempt, to: str) -> None:
        """Hand the call on to the next tier, keeping what the specialist said of it."""
        if attempt.result == "spilled":
            call.note.append(f"spilled={attempt.reason}")
            return
        call.note.append(f"escalated={attempt.result}")
        response = attempt.response if attempt.answer is None else exchange_body(call, attempt.answer, route)
        if self.capture.enabled:
            self.capture.add(
                call.logged(
                    tier="specialist",
                    status=_FAILED.get(attempt.result, 200),
                    latency_seconds=attempt.latency_seconds,
                    response=response,
                    specialist=route.spec.name,
                    revision=revision.name,
                )
            )
        call.escalate(to, f"{attempt.result}: {attempt.reason}" if attempt.reason else attempt.result)

    # --- the LLM ---

    async def _llm(self, exchange: Exchange, call: Call) -> Outcome:
        captures = self._captures(call)
        keep = self.capture.body_limit * SSE_FACTOR if captures or self._shadows(call) else 0
        try:
            outcome = await llm.pass_on(self.client, exchange, call, keep, self.clock)
        except BaseException:
            if self.watch is not None:
                self.watch.asked_llm(call, None)
            if captures:  # the caller left: it must still be seen that the call was made
                self._log_llm(call, 499, self.clock() - call.started, None, None, False, False)
            raise
        self._count_llm(call, outcome)
        if captures:
            self._log_llm(
                call,
                outcome.status,
                outcome.latency_seconds,
                outcome.response,
                outcome.encoding,
                outcome.streamed,
                outcome.cut,
            )
        return outcome

    def _log_llm(
        self,
        call: Call,
        status: int,
        seconds: float,
        response: bytes | None,
        encoding: bytes | None,
        streamed: bool,
        cut: bool,
    ) -> None:
        self.capture.add(
            call.logged(
                tier="llm",
                status=status,
                latency_seconds=seconds,
                response=response,
                encoding=encoding,
                streamed=streamed,
                cut=cut,
                escalated_from=call.escalated_from,
                escalation_reason=call.escalation_reason,
            )
        )

    def _captures(self, call: Call) -> bool:
        if not self.capture.enabled or call.api is None:
            return False
        percent = call.table.spec.capture.sample_percent
        return percent >= 100 or call.escalated_from is not None or sampled("capture/", call.conversation, percent)

    def _shadows(self, call: Call) -> bool:
        return any("arm=llm" in note for note in call.note)

    # --- counting ---

    def _count_attempt(self, call: Call, route: CompiledRoute, revision: Revision, attempt: Attempt) -> None:
        if self.watch is not None:
            self.watch.asked_specialist(call, revision, attempt)
        counter = self.counters.arm(route.spec.name, revision.name)
        if attempt.result == "spilled":
            counter.spilled += 1
            return
        failed = attempt.result != "served"
        self.counters.judge(route.spec.name, revision.name, call.conversation, failed=failed)
        counter.latency.observe(attempt.latency_seconds)
        if attempt.answer is not None:
            counter.input_tokens += attempt.answer.input_tokens
            counter.output_tokens += attempt.answer.output_tokens
        if attempt.result == "served":
            counter.served += 1
        elif attempt.result == "invalid":
            counter.invalid += 1
        elif attempt.result == "low_confidence":
            counter.low_confidence += 1
        else:
            counter.errors += 1
        if failed:
            self.counters.tiers["specialist"].errors += 1

    def _count_llm_arm(self, call: Call, route: CompiledRoute, outcome: Outcome) -> None:
        counter = self.counters.arm(route.spec.name, LLM)
        self.counters.judge(route.spec.name, LLM, call.conversation, failed=outcome.failed)
        counter.latency.observe(outcome.latency_seconds)
        counter.input_tokens += outcome.input_tokens
        counter.output_tokens += outcome.output_tokens
        if outcome.failed:
            counter.errors += 1
            return
        counter.served += 1

    def _count_llm(self, call: Call, outcome: Outcome) -> None:
        if self.watch is not None:
            self.watch.asked_llm(call, outcome)
        tier = self.counters.tiers["llm"]
        tier.calls += 1
        tier.input_tokens += outcome.input_tokens
        tier.output_tokens += outcome.output_tokens
        tier.latency.observe(self.clock() - call.started)
        if outcome.failed:
            tier.errors += 1
        elif outcome.status < 300:
            self._spent(call, outcome.input_tokens + outcome.output_tokens)

    def _spent(self, call: Call, tokens: int) -> None:
        if self.limits.on and call.api is not None:
            self.limits.spent(call.http.lookup, tokens, len(call.http.body))

    # --- shadow ---

    def _offer_shadow(
        self, call: Call, route: CompiledRoute, arm: Arm, response: bytes, encoding: bytes | None, *, streamed: bool
    ) -> None:
        revision = shadow.judged(route, call.conversation, arm)
        if revision is not None and call.request is not None:
            self.shadows.offer(shadow.Replay(call.table, route, revision, call.request, response, encoding, streamed))


def exchange_body(call: Call, answer: answers.Answer, route: CompiledRoute) -> bytes:
    """A specialist's answer as the object that a call without streaming returns."""
    assert call.request is not None
    model = str(call.request.get("model") or route.spec.name)
    return answers.completion(answer, call_id=call.id, created=int(call.time), model=model)


def _note(chosen: Chosen) -> list[str]:
    note = [f"specialist={safe(chosen.route.spec.name)}"] if chosen.route is not None else []
    note.append(f"rule={chosen.rule}")
    if chosen.score is not None:
        note.append(f"score={chosen.score:.3f}")
    if chosen.detail:
        note.append(f"detail={safe(chosen.detail)}")
    return note
