"""How faults are brought about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .occupation import NAME
from .plan import Act, Fault

if TYPE_CHECKING:
    from .node import Node
    from .process import Process
    from .world import World

STEPS = (
    "send seen",
    "send look again",
    "send acquire",
    "send fence",
    "send renew",
    "send release",
    "send begin",
    "send commit",
    "checked",
)


def inject(world: World, act: Act) -> None:
    """Bring *act* about, or arm it."""
    node = world.nodes[act.node]
    seconds = min(act.seconds, world.plan.quiet_at - world.agenda.now)
    match act.fault:
        case Fault.CUT_OUT | Fault.CUT_IN:
            servers = [world.database]
            if world.plan.store == "split":
                servers.append(world.lease_server)
            server = servers[int(act.luck * len(servers))]
            world.network.cut(node.name, server, act.fault, seconds)
        case Fault.DOWN | Fault.RESTART | Fault.STALE | Fault.FLUSH:
            _soon(world, act, lambda: _hurt_lease_server(world, act, seconds))
        case Fault.CLOCK_AHEAD | Fault.CLOCK_BACK:
            _set_clock(world, act)
        case Fault.EVICTED:
            _evict(world)
        case Fault.COMMIT_UNKNOWN:
            world.database.crash_in_commit = act.luck
        case Fault.COMMITS_LOST:
            _soon(world, act, lambda: _fail_over(world, act, seconds))
        case Fault.WALL_JUMP:
            world.hit(act.fault)
            node.clock.wall_offset += (act.luck - 0.5) * 20
        case _:
            _hurt_process(world, act, node, seconds)


def _soon(world: World, act: Act, action: Callable[[], None]) -> None:
    """Do it now, or shortly after somebody has taken the fence: what has just been written is lost most easily."""
    if act.luck < 0.5:
        action()
    else:
        world.on_takeover.append(lambda: None if world.is_quiet else action())


def _fail_over(world: World, act: Act, seconds: float) -> None:
    if world.plan.store == "row":
        world.breach("failover")
    lag = 0.1 + act.luck * 1.5
    world.database.fail_over(lag, min(seconds, 0.2), (act.luck - 0.5) * 2)


def _hurt_lease_server(world: World, act: Act, seconds: float) -> None:
    match act.fault:
        case Fault.DOWN:
            world.lease_server.go_down(seconds)
        case Fault.RESTART:
            world.lease_server.restart(seconds * 0.3)
        case Fault.STALE:
            world.lease_server.fail_over(0.1 + act.luck * world.plan.ttl)
        case _:
            world.lease_server.flush()


def _set_clock(world: World, act: Act) -> None:
    is_split = world.plan.store == "split"
    server = world.lease_server if is_split else world.database
    seconds = (0.1 + act.luck * 3) * (1 if act.fault is Fault.CLOCK_AHEAD else -1)
    world.hit(act.fault)
    server.clock.jump(seconds)
    world.breach("clock", back=max(0.0, -seconds))


def _evict(world: World) -> None:
    """Do what `lockd release --force` does: the fence first, then the lease."""
    world.hit(Fault.EVICTED)

    def free(_: object) -> None:
        if world.plan.store == "split":
            world.lease_server.evict(NAME)
        else:
            world.rows.evict_row(NAME)

    world.rows.evict_fence(NAME, lambda answer: world.agenda.after(0.003, free, answer))


def _hurt_process(world: World, act: Act, node: Node, seconds: float) -> None:
    process = node.process
    if process is None or node.clock.is_asleep:
        return
    step = STEPS[int(act.luck * len(STEPS))]

    def stop(process: Process) -> None:
        world.hit(act.fault)
        left = max(0.0, world.plan.quiet_at - world.agenda.now)
        process.stop(act.fault.value, min(act.seconds, left))

    match act.fault:
        case Fault.PAUSE:
            stop(process)
        case Fault.PAUSE_AT_STEP:
            process.trap(step, stop)
        case Fault.PAUSE_IN_TRANSACTION:
            process.trap("send insert" if act.luck < 0.5 else "send commit", stop)
        case Fault.SUSPEND if not process.is_stopped:
            world.hit(act.fault)
            node.suspend(seconds)
        case Fault.COMPUTE:
            process.compute_seconds = seconds
        case Fault.KILL if act.luck < 0.5:
            _kill(process, seconds)
        case Fault.KILL:
            process.trap(
                STEPS[int((act.luck - 0.5) * 2 * len(STEPS))], lambda it: _kill(it, seconds)
            )
        case Fault.CANCEL:
            _cancel(process, act.fault)
        case Fault.CANCEL_AT_STEP:
            process.trap(step, lambda it: _cancel(it, act.fault))


def _kill(process: Process, seconds: float) -> None:
    process.world.hit(Fault.KILL)
    process.kill()
    process.world.agenda.after(seconds * 0.5, process.world.start, process.node)


def _cancel(process: Process, fault: Fault) -> None:
    """Cancel what it does, as soon as it runs."""
    if process.is_stopped:
        return
    process.world.hit(fault)
    process.outer.cancel()
