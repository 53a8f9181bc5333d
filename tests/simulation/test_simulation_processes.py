"""The simulated machines themselves: stopped, killed, asleep and busy as real ones are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio
from outcome import Value

import lockd
from tests.simulation import process as process_module
from tests.simulation.history import What
from tests.simulation.occupation import NAME
from tests.simulation.plan import NodePlan, make_plan
from tests.simulation.process import Process
from tests.simulation.stores import SplitStore
from tests.simulation.watch import deterministic, replaced, watched
from tests.simulation.world import World

NODE = NodePlan(offset=500.0, rate=1.0, is_outside=False, host="host", exits_on_overrun=False)


def run(occupy: Callable[[Process], Awaitable[None]], seed: int = 0) -> World:
    """Run one process on a machine without faults, for 100 seconds; its errors are raised."""
    plan = replace(make_plan(0), acts=(), odds={}, nodes=(NODE,), latency=0.001, quiet_at=1000.0)
    world = World(plan)

    async def main() -> None:
        async with trio.open_nursery() as world.nursery:
            world.start(world.nodes[0])
            await trio.sleep(100)
            world.nursery.cancel_scope.cancel()

    with replaced(process_module, "occupy", occupy), watched(), deterministic(seed):
        trio.run(main, clock=world.agenda.clock)
    for error in world.crashes:
        raise error
    return world


def test_a_stopped_process_finds_its_answer_or_its_cancellation_when_it_goes_on() -> None:
    """4.2 of the design: a result that was ready is delivered past the deadline, mostly."""
    outcomes: list[str] = []

    async def occupy(process: Process) -> None:
        agenda = process.world.agenda
        wait = process.new_wait()
        agenda.at(2.0, process.stop, "test", 10.0)
        agenda.at(6.0, wait.give, Value("answer"))
        with trio.CancelScope(deadline=4.0) as scope:
            outcomes.append(await wait.park())
        assert agenda.now == 12.0
        assert scope.cancel_called
        if scope.cancelled_caught:
            outcomes.append("cancelled")

    for share in (0.0, 1.0):
        with replaced(process_module, "ANSWER_WINS", share):
            run(occupy)

    assert outcomes == ["cancelled", "answer"]


def test_an_answer_within_the_deadline_is_delivered_in_time_and_a_late_one_is_not() -> None:
    seen: list[str] = []

    async def occupy(process: Process) -> None:
        for moment in (3.0, 9.0):
            wait = process.new_wait()
            process.world.agenda.at(moment, wait.give, Value(f"answer at {moment}"))
            with trio.CancelScope(deadline=5.0):
                seen.append(await wait.park())

    run(occupy)

    assert seen == ["answer at 3.0"]


def test_a_stop_between_two_instructions_lets_the_clock_go_on_before_the_request() -> None:
    times: list[float] = []

    async def occupy(process: Process) -> None:
        process.trap("send renew", lambda it: it.stop("test", 7.0))
        times.append(process.world.agenda.now)
        await SplitStore(process).renew(NAME, process.world.new_holder(process), 5)

    world = run(occupy)

    (sent,) = [each for each in world.history if each.what is What.SENT]
    assert sent.at >= times[0] + 7.0


def test_a_killed_process_is_gone_without_releasing_anything() -> None:
    async def occupy(process: Process) -> None:
        process.world.agenda.at(5.0, process.kill)
        options = {"clock": process.clock, "random": process.random}
        async with lockd.hold(SplitStore(process), NAME, ttl=60, **options):
            try:
                await process.sleep(50)
            finally:
                with trio.CancelScope(shield=True):
                    await process.sleep(1)
                raise AssertionError("it cleaned up")

    world = run(occupy)

    assert world.history[-1].what is What.KILLED
    assert world.lease_server.look(NAME) is None  # 100 s later: expired
    assert [each.facts["op"] for each in world.history.all(What.ENTRY)] == ["acquire"]
    assert world.history.all(What.REMOVED) == []


def test_a_machine_asleep_moves_the_deadlines_of_one_clock_and_not_the_other() -> None:
    async def occupy(process: Process) -> None:
        before = process.clock.now()
        process.world.agenda.at(2.0, process.node.suspend, 30.0)
        with trio.CancelScope(deadline=process.clock.deadline(before.monotonic + 5)) as scope:
            await process.sleep(50)
        now = process.clock.now()
        assert scope.cancelled_caught
        assert abs(now.monotonic - before.monotonic - 5) < 0.001
        assert abs(now.boottime - before.boottime - 35) < 0.001

    run(occupy)


def test_while_one_task_computes_nobody_else_runs_and_it_goes_on_first() -> None:
    order: list[str] = []

    async def occupy(process: Process) -> None:
        async def sleep() -> None:
            await process.sleep(1)
            order.append(f"slept until {process.world.agenda.now:.3f}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            await process.sleep(0.5)
            with trio.CancelScope(deadline=2.0):
                await process.compute(9.0)
                order.append("computed")
                await process.sleep(1)

    run(occupy)

    assert order[0] == "computed"
    assert order[1].startswith("slept until 9.5")
    assert len(order) == 2
