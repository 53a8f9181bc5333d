"""The three measures: an orderly hand-over, the time after kill -9, and acts of one who stood still.

All times are CLOCK_MONOTONIC, told by the processes themselves. A run that fails is counted, never repeated, and
a pair that failed is started anew; after `FAILURES_MAX` in a row no more is asked of it.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from benchmarks.failover_rig.contenders import Pair, PairFailed, open_pairs
from benchmarks.failover_rig.servers import Lab, connected
from benchmarks.failover_rig.systems import TTL_SECONDS, System

RUN_SECONDS = 15
"""How long one acquisition may take."""
FAILURES_MAX = 3
PAUSE_SECONDS = (0.05, 0.05 + TTL_SECONDS / 5)
"""How long both stand before a hand-over: over a whole pause of the slowest poller, so at any moment of it."""
STOP_SECONDS = 2 * TTL_SECONDS
NOTICE_SECONDS = 5
"""How long one that was stopped may take to notice that it lost the lock."""

# A row's commit is later than an acquisition by the other one if the server says so. The acquisition is recorded
# after it took place, so an act in between goes unnoticed, whoever's it is.
STALE = b"""
WITH tenure AS (
    SELECT system, tenure, node, pg_xact_commit_timestamp(xmin) AS since FROM acquisition
), done AS (
    SELECT system, tenure, pg_xact_commit_timestamp(xmin) AS at FROM act
), judged AS (
    SELECT d.system, d.tenure, EXISTS (
        SELECT 1 FROM tenure o WHERE o.system = d.system AND o.node <> t.node
            AND o.since > t.since AND o.since < d.at
    ) AS is_stale
    FROM done d JOIN tenure t USING (system, tenure)
)
SELECT system, count(*), count(*) FILTER (WHERE is_stale),
    count(DISTINCT tenure) FILTER (WHERE is_stale)
FROM judged GROUP BY system
"""


@dataclass
class Times:
    """Seconds that one system took, in the order of the runs."""

    seconds: list[float] = field(default_factory=list[float])
    failures: int = 0


@dataclass
class Stops:
    """What one system did when its holder was stopped and went on."""

    stops: int = 0
    taken_over: int = 0
    """How often the other one had acquired before it went on; only then an act can be stale."""
    unnoticed: int = 0
    """How often it did not notice the loss within `NOTICE_SECONDS`."""
    failures: int = 0
    acts: int = 0
    stale_acts: int = 0
    stops_with_stale_acts: int = 0


@dataclass
class Results:
    """What there is to report, complete or not."""

    hand_over: dict[str, Times] = field(default_factory=dict[str, Times])
    kill: dict[str, Times] = field(default_factory=dict[str, Times])
    stop: dict[str, Stops] = field(default_factory=dict[str, Stops])


async def measure_hand_over(
    lab: Lab, systems: Sequence[System], runs: int, seed: int, results: dict[str, Times]
) -> None:
    """Hand over *runs* times in each system, one at a time, in an order that changes each round."""
    rng = random.Random(seed)
    results.update({system.name: Times() for system in systems})
    async with open_pairs(lab, systems, acts=False, seed=seed) as pairs:
        for number in range(runs):
            _tell_progress("hand-over", number, runs)
            for pair in rng.sample(pairs, len(pairs)):
                times = results[pair.system.name]
                run = partial(_hand_over, pair, rng, times)
                await _guarded(pair, times, run)


async def measure_kill(
    lab: Lab, systems: Sequence[System], kills: int, seed: int, results: dict[str, Times]
) -> None:
    """Kill the holder *kills* times in each system, each round in all systems at once."""
    rng = random.Random(seed)
    results.update({system.name: Times() for system in systems})
    async with open_pairs(lab, systems, acts=False, seed=seed) as pairs:
        for number in range(kills):
            _tell_progress("kill -9", number, kills)
            async with trio.open_nursery() as nursery:
                for pair in pairs:
                    times = results[pair.system.name]
                    run = partial(_kill, pair, random.Random(rng.random()), times)
                    nursery.start_soon(_guarded, pair, times, run)


async def measure_stop(
    lab: Lab, systems: Sequence[System], stops: int, seed: int, results: dict[str, Stops]
) -> None:
    """Stop the acting holder *stops* times in each system, each round in all systems at once."""
    rng = random.Random(seed)
    results.update({system.name: Stops() for system in systems})
    async with open_pairs(lab, systems, acts=True, seed=seed) as pairs:
        for number in range(stops):
            _tell_progress("SIGSTOP", number, stops)
            async with trio.open_nursery() as nursery:
                for pair in pairs:
                    seen = results[pair.system.name]
                    run = partial(_stop, pair, random.Random(rng.random()), seen)
                    nursery.start_soon(_guarded, pair, seen, run)
    async with connected(lab.postgres_url) as connection:
        for name, acts, stale, tenures in await (await connection.execute(STALE)).fetchall():
            seen = results[name]
            seen.acts, seen.stale_acts, seen.stops_with_stale_acts = acts, stale, tenures


async def _guarded(pair: Pair, tally: Times | Stops, run: Callable[[], Awaitable[None]]) -> None:
    """Do one run, unless the pair has failed too often; count it and start anew when it fails."""
    if tally.failures >= FAILURES_MAX:
        return
    try:
        await run()
    except PairFailed as error:
        tally.failures += 1
        print(f"{pair.system.name}: {error}", file=sys.stderr, flush=True)
        await pair.end()


async def _hand_over(pair: Pair, rng: random.Random, times: Times) -> None:
    holder, waiter = await pair.settled()
    await trio.sleep(rng.uniform(*PAUSE_SECONDS))
    begun = time.monotonic()
    holder.signal(signal.SIGUSR1)
    done = await pair.until(
        lambda: waiter.state == "holding" and holder.state == "idle", RUN_SECONDS
    )
    ending, acquired = holder.told_at("ending", begun), waiter.told_at("acquired", begun)
    if not done or ending is None or acquired is None:
        raise PairFailed(f"no hand-over: {holder.state}, {waiter.state}")
    times.seconds.append(acquired - ending)
    if acquired - ending > TTL_SECONDS / 2:
        print(
            f"{pair.system.name}: {acquired - ending:.3f} s from {ending:.3f} on: {pair.last_words()}",
            file=sys.stderr,
            flush=True,
        )


async def _kill(pair: Pair, rng: random.Random, times: Times) -> None:
    holder, waiter = await pair.settled()
    await trio.sleep(rng.uniform(0.1, TTL_SECONDS))
    begun = time.monotonic()
    holder.signal(signal.SIGKILL)
    await pair.until(lambda: waiter.state == "holding", RUN_SECONDS)
    acquired = waiter.told_at("acquired", begun)
    if acquired is None:
        raise PairFailed(f"no acquisition after the kill: {waiter.state}")
    times.seconds.append(acquired - begun)
    await pair.replace(holder)


async def _stop(pair: Pair, rng: random.Random, seen: Stops) -> None:
    holder, waiter = await pair.settled()
    await trio.sleep(rng.uniform(0.3, 1.0))
    if holder.state != "holding":
        raise PairFailed(f"not holding any more, without being stopped: {pair.last_words()}")
    holder.signal(signal.SIGSTOP)
    await trio.sleep(STOP_SECONDS)
    seen.stops += 1
    seen.taken_over += waiter.state == "holding"
    holder.signal(signal.SIGCONT)
    if not await pair.until(lambda: holder.state == "idle", NOTICE_SECONDS):
        seen.unnoticed += 1
        await pair.replace(holder)


def _tell_progress(measure: str, number: int, runs: int) -> None:
    if number % 20 == 0:
        print(f"{measure}: {number} of {runs}", file=sys.stderr, flush=True)
