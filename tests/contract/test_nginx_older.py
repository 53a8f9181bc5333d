"""The variant for nginx before 1.27.3, in the nginx of the system, which is one of those."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.contract.test_nginx import BUSY, FINE, POST
from tests.contract.test_nginx_answers import REFUSED, SECURITY, ask
from tests.support.front import Front, Script, half_a_head, open_front, reset

Open = Callable[..., AbstractAsyncContextManager[Front]]


@pytest.fixture
def older(require: Callable[[str, object, str], None], tmp_path: Path) -> Open:
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    require("nginx", program, "no nginx of the system")
    assert program
    return partial(open_front, tmp_path, program=Path(program), main="nginx-1.22.conf")


@pytest.mark.parametrize("fault", [reset, half_a_head, BUSY], ids=["reset", "half a head", "503"])
async def test_older_nginx_asks_the_other_api_with_the_same_key(fault: Script, older: Open) -> None:
    async with older(fault, FINE) as front:
        faulty, fine = front.apis
        asked = 0
        with trio.fail_after(30):  # an API that seems to be away is left alone for a while
            while asked < 4 or not faulty.requests:
                reply = await front.client.post("/api/v1/things", **POST)
                assert (reply.status_code, reply.json()) == (200, {"fine": True})
                asked += 1
        keys = [request.headers["idempotency-key"] for request in fine.requests]
        assert len(set(keys)) == asked
        assert {each.headers["idempotency-key"] for each in faulty.requests} <= set(keys)


async def test_older_nginx_follows_an_address_that_changes(older: Open) -> None:
    async with older(FINE, FINE) as front:
        first, second = front.apis
        front.stop(first)
        front.stop(second)
        assert (await front.client.post("/x", **POST)).json()["code"] == "no-api"
        second.address = second.address.rsplit(".", 1)[0] + ".77"
        await front.start(second)
        front.tell_names()
        with trio.fail_after(15):
            while (await front.client.get("/x")).status_code != 200:
                await trio.sleep(0.05)


@pytest.mark.parametrize("name", REFUSED)
async def test_older_nginx_refuses_in_json(name: str, older: Open) -> None:
    request, status, code = REFUSED[name]
    async with older(FINE) as front:
        got, headers, body = await ask(front, request)
        assert (got, json.loads(body)["code"]) == (status, code)
        assert {key: headers.get(key) for key in SECURITY} == {k: [v] for k, v in SECURITY.items()}
        assert front.apis[0].requests == []
