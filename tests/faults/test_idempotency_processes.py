"""Repeated requests at two API processes that are killed with -9 again and again."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psycopg
import pytest

from tests.support.sercha import Sercha, clean_up, deployment

EMAIL, PASSWORD = "admin@example.org", "correct horse battery"
PATIENCE = 120.0
"""Seconds until one request must have its answer; nobody is down for that long."""


LINGER = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(0.05);
    RETURN NEW;
END $$;
CREATE TRIGGER linger BEFORE INSERT ON idempotency_key FOR EACH ROW EXECUTE FUNCTION linger();
"""
"""Between an effect and its answer there is time to die."""


@dataclass
class Apis:
    """Two API processes at fixed addresses, and what became of the requests to them."""

    processes: list[Sercha]
    token: str
    root: Path
    addresses: list[str]
    answered: int = 0
    kills: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def post(self, api: int, path: str, body: object, key: str) -> tuple[int, bytes, bool]:
        """Make one request; raises what comes of a process that dies."""
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.token}",
            "Idempotency-Key": key,
        }
        address = f"{self.addresses[api]}/api/v1{path}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=40) as answer:
                return answer.status, answer.read(), "Idempotency-Replayed" in answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), "Idempotency-Replayed" in error.headers

    def insist(self, api: int, path: str, body: object, key: str) -> tuple[int, bytes, bool]:
        """Ask until there is an answer, each time the other API, as a client or a balancer does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                status, content, is_replayed = self.post(api, path, body, key)
                reason = f"{status} {json.loads(content).get('code')}"
            except (OSError, HTTPException, ValueError) as error:
                status, content, is_replayed = 0, b"", False
                reason = type(error).__name__
            if status not in (0, 503):
                break
            assert time.monotonic() < deadline, (key, reason)
            self.retries[reason] += 1
            api = 1 - api
            time.sleep(0.05)
        with self.changed:
            self.answered += 1
            self.changed.notify_all()
        return status, content, is_replayed

    def kill_at(self, thresholds: list[int], rng: random.Random) -> None:
        """Kill one of them each time so many requests were answered, and start it again at once."""
        for threshold in thresholds:
            with self.changed:
                self.changed.wait_for(lambda at=threshold: self.answered >= at, PATIENCE)
            victim = rng.randrange(2)
            process = self.processes[victim]
            process.process.kill()
            process.wait()
            self.kills += 1
            port = self.addresses[victim].rpartition(":")[2]
            self.processes[victim] = Sercha(
                process.home, "api", "--port", port, **process.variables
            )


@pytest.fixture
def apis(postgres_url: str, tmp_path: Path) -> Iterator[Apis]:
    root = tmp_path / "root"
    root.mkdir()
    shared = deployment(postgres_url, tmp_path, root)
    processes: list[Sercha] = []
    try:
        for name in ("a1", "a2"):
            variables = {**shared, "DATA_DIR": str(tmp_path / name)}
            processes.append(Sercha(tmp_path, "api", "--port", "0", **variables))
        addresses = [process.wait_ready().url.rstrip("/") for process in processes]
        body = {"name": "Admin", "email": EMAIL, "password": PASSWORD}
        assert processes[0].request("POST", "/setup", body)[0] == 201
        yield Apis(processes, processes[0].login(EMAIL, PASSWORD), root, addresses)
        for process in processes:
            assert process.wait_ready().stop() == 0, process.output
    finally:
        clean_up(tmp_path)
        for process in processes:
            process.wait()


def wanted(number: int, root: Path) -> tuple[str, dict[str, object], int]:
    """Return path, body and status of the request with this key.

    Users and sources have names that are taken once: a second try would be refused. Nothing keeps a log-in from
    taking place twice.
    """
    match number % 3:
        case 0:
            return "/auth/login", {"email": EMAIL, "password": PASSWORD}, 200
        case 1:
            name = f"u{number}"
            user = {"name": name, "email": f"{name}@example.org", "password": PASSWORD}
            return "/users", {**user, "role": "viewer"}, 201
        case _:
            source = {"provider_type": "localfs", "config": {"paths": [str(root)]}}
            return "/sources", {"name": f"s{number}", **source}, 201


@pytest.mark.parametrize(
    ("posts", "keys", "clients", "kills"),
    [
        pytest.param(240, 24, 16, 4, marks=pytest.mark.slow),
        pytest.param(2_000, 200, 100, 20, marks=pytest.mark.proof),
    ],
)
def test_each_effect_takes_place_once_and_each_repeat_gets_the_same_answer(
    apis: Apis, postgres_url: str, seed: int, posts: int, keys: int, clients: int, kills: int
) -> None:
    """Cause: SIGKILL of either API while requests run. Invariant: one effect and one answer for each key."""
    rng = random.Random(seed)
    # Repeats come close to each other, so that first attempts run all the time, also when a process is killed.
    repeats = posts // keys
    order = sorted(range(posts), key=lambda place: place + rng.uniform(0, 3 * repeats))
    numbers = [place // repeats for place in order]
    first_api = [rng.randrange(2) for _ in numbers]
    with psycopg.connect(postgres_url) as connection:
        connection.execute(LINGER)

    def ask(number: int, api: int) -> tuple[int, tuple[int, bytes, bool]]:
        path, body, _ = wanted(number, apis.root)
        return number, apis.insist(api, path, body, f"key-{number}")

    thresholds = [posts * (n + 1) // (kills + 2) for n in range(kills)]
    killer = threading.Thread(target=apis.kill_at, args=(thresholds, rng))
    killer.start()
    with ThreadPoolExecutor(clients) as pool:
        given = list(pool.map(ask, numbers, first_api))
    killer.join()

    fresh = Counter(number for number, (_, _, is_replayed) in given if not is_replayed)
    print(
        f"{posts} requests, {keys} keys, {apis.kills} kills, {sum(fresh.values())} first answers, "
        f"asked again: {dict(apis.retries)}"
    )
    answers: dict[int, set[tuple[int, bytes]]] = {number: set() for number in range(keys)}
    for number, (status, content, _) in given:
        answers[number].add((status, content))
    assert {number: found for number, found in answers.items() if len(found) != 1} == {}
    for number, found in answers.items():
        assert {status for status, _ in found} == {wanted(number, apis.root)[2]}, found
    assert {number: count for number, count in fresh.items() if count > 1} == {}
    assert (apis.kills, len(given)) == (kills, posts)
    # A process that was killed with requests under way answered none of them.
    assert sum(apis.retries.values()) > 0

    kinds = Counter(wanted(number, apis.root)[0] for number in range(keys))
    with psycopg.connect(postgres_url) as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            for table in ("session", "account", "source")
        }
    assert counts == {
        "session": (1 + kinds["/auth/login"],),
        "account": (1 + kinds["/users"],),
        "source": (kinds["/sources"],),
    }
