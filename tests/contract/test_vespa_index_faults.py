"""What the adapter does when Vespa refuses, breaks off, is slow, is full, or answers in part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio

from sercha.adapters.vespa import open_vespa_index
from sercha.errors import Transient, Unavailable
from sercha.services.ports import Change, DocumentVersion, VerifyReport
from sercha.services.retry import retrying
from tests.support.search import added, at, batches, find, ids, removed
from tests.support.vespa import Setup, open_setup
from tests.vespa import Fault

DOCUMENT = "sercha_document/docid/"


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with open_setup() as opened:
        yield opened


def many(count: int, *, version: int = 1, text: str = "red") -> list[Change]:
    return [added(number, text, version=version) for number in range(1, count + 1)]


async def verified(setup: Setup, changes: list[Change]) -> VerifyReport:
    """Compare with what these changes make true."""
    truth = [
        DocumentVersion(it.document_id, it.document.version, len(it.document.chunks))
        for it in changes
        if it.document is not None
    ]
    return await setup.index.verify(batches(truth))


STORMS: dict[str, dict[str, Any]] = {
    "429 by number": {"kind": "overload", "probability": 0.5, "variant": "operations"},
    "429 by age": {"kind": "overload", "probability": 0.5, "variant": "age"},
    "429 by bytes": {"kind": "overload", "probability": 0.5, "variant": "bytes"},
    "503": {"kind": "unavailable", "probability": 0.3},
    "500": {"kind": "internal", "count": 12, "probability": 0.2},
    "504": {"kind": "timeout", "count": 12, "probability": 0.2},
    "reset before": {"kind": "reset-before", "probability": 0.2},
    "reset after": {"kind": "reset-after", "probability": 0.2},
    "cut answers": {"kind": "truncate", "probability": 0.2, "size": 5},
    "slow first bytes": {"kind": "slow", "probability": 0.2, "delay": 0.05},
}


@pytest.mark.parametrize("storm", STORMS)
async def test_a_storm_costs_no_document_and_no_order(setup: Setup, storm: str, seed: int) -> None:
    fault = setup.vespa.faults.add(Fault(**STORMS[storm], path=DOCUMENT, seed=seed))
    first, second = many(40), many(40, version=2, text="blue")
    for number in (3, 17):
        second[number - 1] = removed(number, version=2)

    # As its follower does: again, when a few tries were not enough.
    await retrying(partial(setup.index.apply, first, at("5:5:")))
    await retrying(partial(setup.index.apply, second, at("6:6:")))

    assert fault.hits > 0
    setup.vespa.faults.clear()
    assert (await verified(setup, second)).differences == 0
    assert await setup.index.position() == at("6:6:")
    assert await ids(setup.index, "red") == set()
    assert len(await ids(setup.index, "blue")) == 38
    requests = setup.vespa.requests
    for number in range(1, 41):
        assert requests.are_in_turn(requests.of_document("g1", "sercha_document", str(number)))


async def test_a_write_that_comes_late_changes_nothing(setup: Setup) -> None:
    await setup.index.apply([added(1, "old"), added(2, "old")], at("5:5:"))
    await setup.index.apply([added(1, "new", version=3), removed(2, version=3)], at("6:6:"))

    await setup.index.apply([added(1, "old", version=2), added(2, "old", version=2)], None)

    assert await ids(setup.index, "old") == set()
    assert await ids(setup.index, "new") == {1}
    await setup.index.apply([added(2, "revived", version=4)], None)
    assert await ids(setup.index, "revived") == {2}


async def test_a_document_that_is_gone_for_good_stays_away(setup: Setup) -> None:
    await setup.index.apply([added(1, "red")], None)
    await setup.index.apply([removed(1)], None)
    await setup.index.apply([added(1, "red", version=9)], None)

    assert await ids(setup.index, "red") == set()


async def test_a_full_cluster_takes_removals_and_says_that_it_is_full(setup: Setup) -> None:
    await setup.index.apply(many(5), at("5:5:"))
    fault = setup.vespa.faults.add(Fault("full", DOCUMENT))

    with pytest.raises(Transient, match="no room") as caught:
        await setup.index.apply([added(1, "blue", version=2), removed(2, version=2)], at("6:6:"))

    assert caught.value.error_code == "index-full"
    assert await ids(setup.index, "red") == {1, 3, 4, 5}
    assert await setup.index.position() == at("5:5:")
    setup.vespa.faults.remove(fault)
    await setup.index.apply([added(1, "blue", version=2), removed(2, version=2)], at("6:6:"))
    assert await ids(setup.index, "blue") == {1}


async def test_a_document_that_vespa_refuses_holds_up_no_other(setup: Setup) -> None:
    bad = added(2, "red", readers=("team",))
    assert bad.document is not None
    object.__setattr__(bad.document, "version", 2**70)  # no number of Vespa's

    await setup.index.apply([added(1, "red"), bad, added(3, "red")], at("5:5:"))

    assert await ids(setup.index, "red") == {1, 3}
    assert await setup.index.position() == at("5:5:")


async def test_one_container_that_is_down_is_gone_round(setup: Setup) -> None:
    await setup.index.apply(many(20), at("5:5:"))
    await setup.vespa.stop_container(0)

    for _ in range(5):
        assert len(await ids(setup.index, "red")) == 20
    await setup.index.apply(many(20, version=2, text="blue"), at("6:6:"))

    assert len(await ids(setup.index, "blue")) == 20
    await setup.vespa.start_container(0)
    assert len(await ids(setup.index, "blue")) == 20


async def test_vespa_that_is_away_is_said_to_be_away_within_bounds(setup: Setup) -> None:
    await setup.index.apply(many(2), at("5:5:"))
    for number in (0, 1):
        await setup.vespa.stop_container(number)

    with trio.fail_after(12), pytest.raises(Unavailable, match="away") as caught:
        await find(setup.index, "red")
    assert caught.value.error_code == "vespa-away"
    with pytest.raises(Unavailable, match="did not take"):
        await setup.index.apply(many(2, version=2), None)

    for number in (0, 1):
        await setup.vespa.start_container(number)
    assert await ids(setup.index, "red") == {1, 2}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("unavailable", "/search/", count=2),
        Fault("timeout", "/search/", count=1),
        Fault("reset-before", "/search/", count=2),
        Fault("reset-after", "/search/", count=2),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_search_is_asked_again(setup: Setup, fault: Fault) -> None:
    await setup.index.apply(many(3), None)
    setup.vespa.faults.add(fault)

    assert len(await ids(setup.index, "red")) == 3
    assert fault.hits == fault.count


async def test_a_search_that_vespa_does_not_understand_is_asked_once(setup: Setup) -> None:
    await setup.index.apply(many(3), None)
    setup.vespa.requests.clear()
    setup.index.generation = "g1"
    setup.vespa.faults.add(Fault("errors", "/search/", errors=((15, "no"),)))

    with pytest.raises(Unavailable) as caught:
        await find(setup.index, "red")

    assert caught.value.error_code == "search-failed"
    assert len(setup.vespa.requests.select("POST", "/search/")) == 1


@pytest.mark.parametrize(
    ("fault", "coverage", "reason"),
    [
        (Fault("degraded", flags=frozenset({"timeout"}), coverage=40), 40, "timeout"),
        (Fault("degraded", flags=frozenset({"match-phase"}), coverage=70), 70, "match-phase"),
        (
            Fault("degraded", flags=frozenset({"non-ideal-state"}), coverage=50),
            50,
            "non-ideal-state",
        ),
        (Fault("degraded", flags=frozenset({"anntimeout"}), coverage=100), 100, "anntimeout"),
        (Fault("errors", errors=((8, "a node is gone"),)), 100, "errors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_of_a_part_is_asked_for_once_more_and_said_to_be_one(
    setup: Setup, fault: Fault, coverage: int, reason: str
) -> None:
    await setup.index.apply(many(50), None)
    setup.vespa.faults.add(fault)
    setup.vespa.requests.clear()

    page = await find(setup.index, "red")

    assert reason in page.degraded
    assert page.coverage == coverage
    assert len(setup.vespa.requests.select("POST", "/search/")) == 2
    setup.vespa.faults.clear()
    page = await find(setup.index, "red")
    assert (page.degraded, page.coverage, page.total) == ((), 100, 50)


async def test_a_part_that_was_one_for_a_moment_is_not_shown(setup: Setup) -> None:
    await setup.index.apply(many(50), None)
    setup.vespa.faults.add(Fault("degraded", flags=frozenset({"timeout"}), coverage=40, count=1))

    page = await find(setup.index, "red")

    assert (page.degraded, page.total) == ((), 50)


async def test_a_feeder_that_was_overtaken_finds_out_and_moves_no_position(setup: Setup) -> None:
    await setup.index.apply(many(1), at("5:5:"))
    urls, config = setup.vespa.container_urls, [setup.vespa.config_url]
    async with open_vespa_index(urls, config, setup.generations, cluster="sercha") as other:
        assert await other.position() == at("5:5:")
        await other.apply([], at("6:6:"))

        with pytest.raises(Transient) as caught:
            await setup.index.apply(many(1), at("5:6:"))

        assert caught.value.error_code == "index-overtaken"
        assert await other.position() == at("6:6:")
        assert await setup.index.position() == at("6:6:"), "and goes on when it has looked again"
        await setup.index.apply([], at("7:7:"))
        assert await other.position() == at("7:7:")


@pytest.mark.parametrize("kind", ["reset-after", "reset-before", "unavailable"])
async def test_a_position_whose_answer_is_lost_is_saved_once(setup: Setup, kind: str) -> None:
    await setup.index.apply(many(1), at("5:5:"))
    setup.vespa.faults.add(Fault(kind, "sercha_position", method="POST", count=2))

    await setup.index.apply([], at("6:6:"))
    await setup.index.apply([], at("7:7:"))

    assert await setup.index.position() == at("7:7:")


async def test_what_is_swept_is_what_nobody_can_find(setup: Setup) -> None:
    now = 1_000_000.0
    setup.index._clock = lambda: now
    await setup.index.apply(many(30), at("5:5:"))
    await setup.index.apply([removed(number, version=2) for number in range(1, 11)], at("6:6:"))
    await setup.index.sweep()
    held = {
        document.id.user_specific for document in setup.vespa.store.documents("sercha_document")
    }
    assert len(held) == 30, "tombstones keep late writes away"

    now += 2 * 24 * 3600
    await setup.index.sweep()

    held = {
        document.id.user_specific for document in setup.vespa.store.documents("sercha_document")
    }
    assert held == {str(number) for number in range(11, 31)}


async def test_a_generation_that_was_replaced_is_removed_whole(setup: Setup) -> None:
    async def whole() -> AsyncIterator[list[Change]]:
        yield many(30, text="blue")

    await setup.index.apply(many(30), at("5:5:"))
    await setup.index.replace(whole(), at("6:6:"))
    await setup.index.sweep()

    namespaces = {each.id.namespace for each in setup.vespa.store.documents("sercha_document")}
    assert namespaces == {"g2"}
    assert await setup.generations.retired(seconds=0) == []
