"""Deploying to config servers that have something already, fail, refuse, or say yes too early."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from sercha.adapters.vespa import deploy
from sercha.adapters.vespa.deploy import Deployer
from sercha.adapters.vespa.package import VectorField, make_package
from sercha.errors import Rejected, Unavailable
from tests.unit.test_vespa_package import FOREIGN
from tests.vespa import Fault, Vespa, open_vespa

PREPARE = "/application/v2/tenant/default/prepareandactivate"
FILM = b"schema film {\n  document film {\n    field title type string { indexing: summary | index }\n  }\n}\n"
BOOK = FILM.replace(b"film", b"book")


@pytest.fixture
async def vespa() -> AsyncIterator[Vespa]:
    async with open_vespa(containers=2) as opened:
        yield opened


def deployer(vespa: Vespa) -> Deployer:
    return Deployer([vespa.config_url], vespa.container_urls)


async def test_a_first_deployment_and_one_without_a_change(vespa: Vespa) -> None:
    first = await deployer(vespa).deploy(make_package(), cluster="sercha")
    again = await deployer(vespa).deploy(make_package(), cluster="sercha")

    assert first.session > 0
    assert again.session == 0
    assert len(vespa.requests.select("POST", PREPARE)) == 1


async def test_what_is_there_is_kept(vespa: Vespa) -> None:
    files = {
        "services.xml": FOREIGN % b'<documents><document type="film" mode="index"/></documents>',
        "hosts.xml": b'<hosts><host name="localhost"><alias>n</alias></host></hosts>',
        "schemas/film.sd": FILM,
        "schemas/book.sd": BOOK,
        "files/with space & sign.txt": b"\x00kept",
    }
    vespa.deploy(files)

    await deployer(vespa).deploy(make_package(), cluster="main")

    assert vespa.application is not None
    now = vespa.application.files
    assert {path: now[path] for path in files if path != "services.xml"} == {
        path: content for path, content in files.items() if path != "services.xml"
    }
    assert {"film", "book", "sercha_document", "sercha_position"} == set(vespa.application.schemas)


async def test_vectors_of_another_model_are_added_beside_those_of_the_first(vespa: Vespa) -> None:
    first, second = VectorField("aaaaaaaa", 384), VectorField("bbbbbbbb", 1024)
    await deployer(vespa).deploy(make_package([first]), cluster="sercha")
    done = await deployer(vespa).deploy(make_package([first, second]), cluster="sercha")

    assert done.actions == {"restart": [], "refeed": [], "reindex": []}
    assert vespa.application is not None
    fields = vespa.application.schemas["sercha_document"].fields
    assert {"vectors_aaaaaaaa", "vectors_bbbbbbbb"} <= fields.keys()


async def test_an_activation_that_failed_is_asked_for_again(vespa: Vespa) -> None:
    vespa.faults.add(Fault("not-activated", count=2))

    done = await deployer(vespa).deploy(make_package(), cluster="sercha")

    assert vespa.application is not None
    assert done.session == vespa.application.generation
    assert vespa.requests.select("PUT", f"{PREPARE}/{done.session}")


async def test_it_is_over_when_the_services_follow(vespa: Vespa) -> None:
    vespa.faults.add(Fault("slow-convergence", delay=1.5))
    began = trio.current_time()

    await deployer(vespa).deploy(make_package(), cluster="sercha")

    assert trio.current_time() - began >= 1.5


async def test_a_container_that_is_not_in_rotation_is_waited_for(vespa: Vespa) -> None:
    vespa.faults.add(Fault("out-of-rotation", count=3))

    await deployer(vespa).deploy(make_package(), cluster="sercha")

    assert len(vespa.requests.select("GET", "/status.html")) >= 5


@pytest.mark.parametrize(
    "fault",
    [
        Fault("unavailable", count=2),
        Fault("internal", count=2),
        Fault("reset-before", PREPARE, count=1),
        Fault("reset-after", PREPARE, count=1),
    ],
    ids=lambda fault: fault.kind,
)
async def test_what_passes_is_tried_again(vespa: Vespa, fault: Fault) -> None:
    vespa.faults.add(fault)

    await deployer(vespa).deploy(make_package(), cluster="sercha")

    assert fault.hits == fault.count
    assert vespa.application is not None


async def test_another_config_server_is_asked_when_one_is_away(vespa: Vespa) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    urls = [f"http://127.0.0.1:{port}", vespa.config_url]

    await Deployer(urls, vespa.container_urls).deploy(make_package(), cluster="sercha")

    assert vespa.application is not None


async def test_a_package_that_is_refused_is_not_tried_again(vespa: Vespa) -> None:
    package = {**make_package(), "schemas/broken.sd": b"schema broken {"}

    with pytest.raises(Rejected, match="refuses the application") as caught:
        await deployer(vespa).deploy(package, cluster="sercha")

    assert caught.value.error_code == "vespa-application"
    assert len(vespa.requests.select("POST", PREPARE)) == 1


async def test_config_servers_that_are_all_away_are_given_up(
    vespa: Vespa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "TRIES_MAX", 3)
    await vespa.stop_config()

    with pytest.raises(Unavailable, match="do not answer") as caught:
        await deployer(vespa).deploy(make_package(), cluster="sercha")

    assert caught.value.error_code == "vespa-away"
