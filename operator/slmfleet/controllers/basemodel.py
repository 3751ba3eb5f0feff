"""The loop of a BaseModel: asks every server of its pool, plans, applies, then moves adapters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from slmfleet.controllers import parse
from slmfleet.controllers.context import Context
from slmfleet.controllers.triton import Triton, TritonError
from slmfleet.kube.client import BASE, POD, ROUTER, Object
from slmfleet.plan import pool as plan
from slmfleet.plan.facts import BaseFacts, BaseObject, ServerFact
from slmfleet.plan.pods import store_prefix

log = logging.getLogger("slmfleet.pool")
PROBE_EVERY_LOOKS = 5
_looks: dict[str, int] = {}
_refused: dict[tuple[str, str], str] = {}


async def reconcile(context: Context, name: str) -> float | None:
    """Observe, plan, apply, move."""
    raw = context.must(BASE, name)
    me = parse.base(raw)
    facts = await observe(context, me)
    made = plan.plan_base(context.config, me, facts)
    if await context.performer.perform(raw, made):
        for specialist in facts.specialists:
            context.ring("Specialist", specialist)
        for router in context.cache.all(ROUTER):
            context.ring("Router", router["metadata"]["name"])
    if await _move(context, plan.moves(me, facts)):
        return 0.0
    return made.resync_seconds


async def observe(context: Context, me: BaseObject) -> BaseFacts:
    users = {name: s for name, s in context.specialists().items()
             if any(r and r.base == me.meta.name for r in (s.status.stable, s.status.candidate))}
    pods = [p for p in context.cache.all(POD, plan.pool_labels(me.meta.name)) if (p.get("status") or {}).get("podIP")]
    live = [p for p in pods if parse.pod_ready(p)]
    servers = await asyncio.gather(*(_server(context, pod) for pod in live))
    prefix = next((store_prefix(o["spec"]["store"].get("url", "")) for o in context.cache.all(ROUTER)), "")
    every: list[Mapping[str, object]] = list(context.cache.all(POD, plan.pool_labels(me.meta.name)))
    return BaseFacts(specialists=users, store_prefix=prefix, servers=tuple(servers),
                     demand=context.board.demand(me.meta.name), now=context.now(),
                     pod_problem=None if live else parse.pod_problem(every))


async def _server(context: Context, pod: Object) -> ServerFact:
    """What the server says it holds; now and then a real token is asked for as well."""
    name, address = pod["metadata"]["name"], pod["status"]["podIP"]
    triton = Triton(address, context.control_key)
    looks = _looks[name] = _looks.get(name, -1) + 1
    try:
        adapters = await triton.adapters()
        if looks % PROBE_EVERY_LOOKS == 0:
            await triton.probe()
    except TritonError as error:
        return ServerFact(name, address, ready=False, message=f"{name}: {error}")
    told = next((text for (where, _), text in _refused.items() if where == address), None)
    return ServerFact(name, address, ready=True, adapters=adapters, message=told)


async def _move(context: Context, moves: tuple[plan.Move, ...]) -> bool:
    """Perform the moves; True if all went well and there were any."""
    well = True
    for move in moves:
        triton = Triton(move.address, context.control_key)
        key = (move.address, move.adapter.name)
        try:
            if move.op == "unload":
                await triton.unload(move.adapter.name)
            else:
                await triton.load(move.adapter, context.config.store_mount)
                log.info("adapter %s is on %s", move.adapter.name, move.address)
            _refused.pop(key, None)
        except TritonError as error:
            well = False
            _refused[key] = f"adapter {move.adapter.name} on {move.address}: {error}"
            log.warning("%s", _refused[key])
    wanted = {(move.address, move.adapter.name) for move in moves}
    for key in [key for key in _refused if key not in wanted]:
        del _refused[key]
    return bool(moves) and well
