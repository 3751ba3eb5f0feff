"""The loop of a BaseModel: asks every server of its pool, plans, applies, then moves adapters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from slmfleet.controllers import parse
from slmfleet.controllers.context import Context, PoolMemory, Trouble
from slmfleet.controllers.triton import NoAnswer, Triton, TritonError
from slmfleet.kube.client import BASE, POD, ROUTER, Object
from slmfleet.plan import pool as plan
from slmfleet.plan.facts import BaseFacts, BaseObject, ServerFact
from slmfleet.plan.fleet import peak_seconds
from slmfleet.plan.pods import store_prefix

log = logging.getLogger("slmfleet.pool")
PROBE_EVERY_LOOKS = 5


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
    if await _move(context, context.pool(name), plan.moves(me, facts)):
        return 0.0
    return made.resync_seconds


async def observe(context: Context, me: BaseObject) -> BaseFacts:
    users = {name: s for name, s in context.specialists().items()
             if any(r and r.base == me.meta.name for r in (s.status.stable, s.status.candidate))}
    pods = [p for p in context.cache.all(POD, plan.pool_labels(me.meta.name)) if (p.get("status") or {}).get("podIP")]
    live = [p for p in pods if parse.pod_ready(p)]
    memory = context.pool(me.meta.name)
    memory.keep(pods={p["metadata"]["name"] for p in pods})
    servers = await asyncio.gather(*(_server(context, memory, pod) for pod in live))
    prefix = next((store_prefix(o["spec"]["store"].get("url", "")) for o in context.cache.all(ROUTER)), "")
    every: list[Mapping[str, object]] = list(context.cache.all(POD, plan.pool_labels(me.meta.name)))
    demand = context.board.demand(me.meta.name, peak_seconds(me.spec.pool))
    return BaseFacts(specialists=users, store_prefix=prefix, servers=tuple(servers), demand=demand, now=context.now(),
                     calls=context.board.calls(),
                     pod_problem=None if live else parse.pod_problem(every))


async def _server(context: Context, memory: PoolMemory, pod: Object) -> ServerFact:
    """What the server says it holds; now and then a real token is asked for as well."""
    name, address = pod["metadata"]["name"], pod["status"]["podIP"]
    triton = Triton(address, context.control_key)
    looks = memory.look(name)
    try:
        adapters = await triton.adapters()
        if looks % PROBE_EVERY_LOOKS == 0:
            await triton.probe()
    except TritonError as error:
        return ServerFact(name, address, ready=False, message=f"{name}: {error}", silent=True)
    trouble = memory.trouble(address)
    if trouble is None:
        return ServerFact(name, address, ready=True, adapters=adapters)
    return ServerFact(name, address, ready=True, adapters=adapters, message=trouble.message, silent=trouble.silent)


async def _move(context: Context, memory: PoolMemory, moves: tuple[plan.Move, ...]) -> bool:
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
            memory.troubles.pop(key, None)
        except TritonError as error:
            well = False
            told = f"adapter {move.adapter.name} on {move.address}: {error}"
            memory.troubles[key] = Trouble(told, silent=isinstance(error, NoAnswer))
            log.warning("%s", told)
    memory.keep(moves={(move.address, move.adapter.name) for move in moves})
    return bool(moves) and well
