"""Eight writers against killed consumers: every copy of the index ends equal to the truth."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import trio

from tests.support.sercha import Sercha, clean_up, command, environment, run
from tests.support.truth import Truth, draft, open_truth

EMAIL, PASSWORD = "admin@example.org", "correct horse battery"
WRITERS = 8


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    clean_up(tmp_path)


class Apis:
    """Two APIs that are killed and started again."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.variables = {
            "DATABASE_URL": url,
            "JWT_SECRET": "j" * 40,
            "MASTER_KEY": "ab" * 32,
            "HOST": "127.0.0.1",
            "LOG_LEVEL": "info",
        }
        migrated = run(command("migrate"), environment(home, **self.variables))
        assert migrated.returncode == 0, migrated.stderr
        self.running = [self._start(number) for number in range(2)]

    def _start(self, number: int) -> Sercha:
        variables = {**self.variables, "DATA_DIR": str(self.home / f"copy{number}")}
        return Sercha(self.home, "api", "--port", "0", **variables)

    async def kill_and_restart(self, number: int) -> None:
        sercha = self.running[number]
        sercha.process.kill()
        await trio.to_thread.run_sync(sercha.wait)
        self.running[number] = self._start(number)


async def _write(truth: Truth, source_id: UUID, rng: random.Random, rounds: int) -> None:
    """Save and delete random documents in transactions of random length; some roll back."""
    for _ in range(rounds):
        names = sorted({f"d{rng.randrange(120):03}" for _ in range(rng.randint(1, 6))})
        try:
            async with truth.pool.transaction() as tx:
                if rng.random() < 0.3:
                    await truth.documents.delete(tx, source_id, names)
                else:
                    text = " ".join(rng.choices(["oolong", "sencha", "mate", "assam"], k=30))
                    drafts = [draft(name, f"{text} {rng.random()}") for name in names]
                    await truth.documents.save(tx, source_id, drafts)
                await trio.sleep(rng.choice([0, 0, 0.01, 0.05]))
                if rng.random() < 0.15:
                    raise RuntimeError
        except RuntimeError:
            pass


async def _torture(home: Path, url: str, seed: int, *, kills: int, rounds: int) -> None:
    """Cause: kill -9 of consumers at random moments under load. Invariant: both copies equal the truth."""
    rng = random.Random(seed)
    apis = await trio.to_thread.run_sync(partial(Apis, home, url))
    async with open_truth(url) as truth:
        source = await truth.add_source(paths=[])
        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                writer = random.Random(seed + number)
                nursery.start_soon(_write, truth, source.id, writer, rounds)
            for _ in range(kills):
                await trio.sleep(rng.uniform(0.1, 1.5))
                await apis.kill_and_restart(rng.randrange(2))
        expected = await truth.documents.count()

    reports = [await trio.to_thread.run_sync(_verify, api) for api in apis.running]
    answers = [await trio.to_thread.run_sync(_search, api) for api in apis.running]
    for api in apis.running:
        assert await trio.to_thread.run_sync(api.stop) == 0, api.output

    assert expected > 0
    for report in reports:
        assert (report["differences"], report["checked"]) == (0, expected), report
    assert answers[0] == answers[1]


def _verify(api: Sercha) -> dict[str, int]:
    api.wait_ready()
    body = {"name": "Admin", "email": EMAIL, "password": PASSWORD}
    api.request("POST", "/setup", body)  # the second one is told that it is done
    status, report = api.request("POST", "/admin/index/verify", token=api.login(EMAIL, PASSWORD))
    assert status == 200, report
    return report


def _search(api: Sercha) -> list[tuple[str, float]]:
    token = api.login(EMAIL, PASSWORD)
    body = {"query": "oolong mate", "limit": 100}
    status, page = api.request("POST", "/search", body, token=token)
    assert status == 200, page
    return [(hit["document"]["path"], hit["score"]) for hit in page["results"]]


async def test_copies_of_killed_consumers_end_equal_to_the_truth(
    home: Path, postgres_url: str, seed: int
) -> None:
    await _torture(home, postgres_url, seed, kills=5, rounds=300)


@pytest.mark.proof
async def test_copies_of_forty_times_killed_consumers_end_equal_to_the_truth(
    home: Path, postgres_url: str, seed: int
) -> None:
    await _torture(home, postgres_url, seed, kills=40, rounds=800)
