"""Vectors in PostgreSQL that cannot be used, or not any more: text answers, and whoever looks is told what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import trio

from sercha.adapters.embedded_index import EmbeddedIndex, open_embedded_index
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.postgres.pgvector import whole_name
from sercha.adapters.postgres.pool import open_pool
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.cli.checks import Verdict
from sercha.cli.checks_vectors import check_vectors
from sercha.domain.query import SearchMode
from sercha.services import embedding
from sercha.services.embedders import open_embedders
from sercha.services.neighbour_search import NeighbourSearch
from sercha.services.ports.embeddings import ModelState
from sercha.services.query_vectors import QueryVectors
from sercha.services.search import Search
from sercha.wiring.probes import probe_vectors
from tests.support.embedding_work import open_client, stored_model, want
from tests.support.embeddings import EmbeddingEndpoint
from tests.support.postgres import PostgresServer
from tests.support.truth import Truth, open_truth
from tests.support.vector_tables import (
    TEXTS,
    fill,
    fill_copy,
    make_search,
    make_work,
    modes,
    nearest,
    states,
    work_once,
)


@pytest.fixture
async def truth(empty_postgres_url: str) -> AsyncIterator[Truth]:
    async with open_truth(empty_postgres_url) as truth:
        yield truth


@pytest.fixture
async def index(truth: Truth, tmp_path: Path) -> AsyncIterator[EmbeddedIndex]:
    async with open_embedded_index(tmp_path / "index") as index:
        yield index


@pytest.fixture
def limited_url(postgres_server: PostgresServer, empty_postgres_url: str) -> Iterator[str]:
    """Give the database to a role that may make tables there, and no extension."""
    database = urlsplit(empty_postgres_url).path[1:]
    role = f"limited_{database[-8:]}"
    postgres_server.execute(f'CREATE ROLE "{role}" LOGIN')
    postgres_server.execute(f'GRANT pg_monitor TO "{role}"')
    postgres_server.execute(f'ALTER DATABASE "{database}" OWNER TO "{role}"')
    postgres_server.execute(f'GRANT ALL ON SCHEMA public TO "{role}"', database)
    parts = urlsplit(empty_postgres_url)
    yield urlunsplit(parts._replace(netloc=f"{role}@"))
    postgres_server.drop_database(database)
    postgres_server.execute(f'DROP ROLE "{role}"')


@pytest.mark.parametrize("loss", ["table", "extension", "rows"])
async def test_what_a_restore_has_lost_is_filled_in_again_and_text_answers_until_then(
    truth: Truth, endpoint: EmbeddingEndpoint, index: EmbeddedIndex, loss: str
) -> None:
    stored = await fill(truth, endpoint)
    await fill_copy(truth, index)
    statements = {
        "table": f"DROP TABLE {whole_name(stored.name)}",
        "extension": "DROP EXTENSION vector CASCADE",
        "rows": f"DELETE FROM {whole_name(stored.name)}",
    }
    async with open_embedders(open_client) as embedders:
        search = make_search(truth, index, embedders)
        assert await modes(search) == [SearchMode.SEMANTIC, SearchMode.HYBRID]
        await truth.value(statements[loss])

        if loss != "rows":
            assert await modes(search) == [SearchMode.TEXT, SearchMode.TEXT]
            state = await PostgresNeighbours(truth.pool).state()
            assert not state.is_usable
            assert (
                "CREATE EXTENSION vector" if loss == "extension" else whole_name(stored.name)
            ) in (state.message)
        asked = len(endpoint.answered)
        await work_once(truth)

        assert await modes(search) == [SearchMode.SEMANTIC, SearchMode.HYBRID]
        assert (await PostgresNeighbours(truth.pool).state()).is_usable
    assert len(await nearest(truth, stored, "car") or []) == 4
    assert endpoint.answered[asked:] == []


async def test_extension_that_we_may_not_add_is_asked_for_and_comes_late(
    postgres_server: PostgresServer,
    limited_url: str,
    tmp_path: Path,
    endpoint: EmbeddingEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "POLL_INTERVAL", 0.1)
    refused = "permission denied to create extension"
    before = postgres_server.log_text().count(refused)
    async with (
        open_truth(limited_url) as truth,
        open_embedded_index(tmp_path / "index") as index,
        open_embedders(open_client) as embedders,
        trio.open_nursery() as nursery,
    ):
        store = PostgresNeighbours(truth.pool)
        assert (await probe_vectors(store.state)).is_healthy, "nobody wants vectors"
        assert (await check_vectors(truth.pool)).verdict is Verdict.OK
        source = await truth.add_source()
        await truth.save(source.id, **TEXTS)
        await fill_copy(truth, index)
        stored = await want(truth, stored_model(endpoint))
        tables = PostgresVectorTables(truth.pool)
        made = make_work(truth, embedders, tables)
        nursery.start_soon(made.run)
        with trio.fail_after(10):
            while not made.state.errors:
                await trio.sleep(0.01)

        why = made.state.errors[stored.name]
        assert "permission denied" in why
        assert "run CREATE EXTENSION vector" in why
        health = await probe_vectors(PostgresNeighbours(truth.pool).state)
        assert (health.is_healthy, health.is_vital) == (False, False)
        assert "CREATE EXTENSION vector" in health.message
        finding = await check_vectors(truth.pool)
        assert finding.verdict is Verdict.WARN
        assert "CREATE EXTENSION vector" in finding.mend
        assert endpoint.requests == [], "nothing is made that no search could use"
        search = make_search(truth, index, embedders)
        assert await modes(search) == [SearchMode.TEXT, SearchMode.TEXT]

        database = urlsplit(limited_url).path[1:]
        await trio.to_thread.run_sync(postgres_server.execute, "CREATE EXTENSION vector", database)
        with trio.fail_after(20):
            while await states(truth) != {"words": ModelState.CURRENT}:
                await trio.sleep(0.05)
        assert made.state.errors == {}
        assert (await probe_vectors(PostgresNeighbours(truth.pool).state)).is_healthy
        assert await modes(make_search(truth, index, embedders)) == [
            SearchMode.SEMANTIC,
            SearchMode.HYBRID,
        ]
        assert postgres_server.log_text().count(refused) == before + 1, "no try at each look"
        old = "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'"
        await trio.to_thread.run_sync(postgres_server.execute, old, database)
        assert "too old" in (await tables.complete(stored.model) or "")
        nursery.cancel_scope.cancel()


async def test_old_version_and_a_server_without_it_are_told_apart(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    stored = await fill(truth, endpoint)
    await truth.value("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")

    why = await PostgresVectorTables(truth.pool).complete(stored.model)

    assert why is not None
    assert "0.7.4 is too old" in why
    assert "ALTER EXTENSION vector UPDATE" in why
    assert await nearest(truth, stored, "car") is None
    await truth.value("UPDATE pg_extension SET extversion = '0.10.0' WHERE extname = 'vector'")
    assert await PostgresVectorTables(truth.pool).complete(stored.model) is None


async def test_locked_table_holds_no_search_up_for_long(
    truth: Truth, endpoint: EmbeddingEndpoint, index: EmbeddedIndex
) -> None:
    stored = await fill(truth, endpoint)
    await fill_copy(truth, index)
    async with open_embedders(open_client) as embedders:
        vectors = QueryVectors(truth.embeddings, embedders)
        by_vector = NeighbourSearch(index, PostgresNeighbours(truth.pool), seconds=0.5)
        search = Search(index, truth.documents, vectors, by_vector)
        assert await modes(search) == [SearchMode.SEMANTIC, SearchMode.HYBRID]
        async with truth.pool.connection() as connection, connection.transaction():
            await connection.execute(f"LOCK TABLE {whole_name(stored.name)}".encode())
            with trio.fail_after(3):
                assert await modes(search) == [SearchMode.TEXT, SearchMode.TEXT]


async def test_server_that_goes_away_while_neighbours_are_looked_for_is_no_failing_search(
    truth: Truth, endpoint: EmbeddingEndpoint, index: EmbeddedIndex
) -> None:
    await fill(truth, endpoint)
    await fill_copy(truth, index)
    async with open_embedders(open_client) as embedders:
        vectors = QueryVectors(truth.embeddings, embedders)
        async with open_pool("postgresql://nobody@127.0.0.1:1/none", max_open=2) as away:
            by_vector = NeighbourSearch(index, PostgresNeighbours(away))
            search = Search(index, truth.documents, vectors, by_vector)
            assert await modes(search) == [SearchMode.TEXT, SearchMode.TEXT]


async def test_table_that_cannot_be_made_is_said(
    postgres_server: PostgresServer, limited_url: str, endpoint: EmbeddingEndpoint
) -> None:
    database = urlsplit(limited_url).path[1:]
    async with open_pool(limited_url, max_open=2) as pool:
        await migrate(pool)
        stored = stored_model(endpoint)
        await trio.to_thread.run_sync(postgres_server.execute, "CREATE EXTENSION vector", database)
        owner = urlsplit(limited_url).netloc.rstrip("@")
        for statement in (f'REVOKE ALL ON SCHEMA public FROM "{owner}"', "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                          "ALTER SCHEMA public OWNER TO postgres", "GRANT USAGE ON SCHEMA public TO PUBLIC"):  # fmt: skip
            await trio.to_thread.run_sync(postgres_server.execute, statement, database)

        why = await PostgresVectorTables(pool).complete(stored.model)

    assert why is not None
    assert "permission denied" in why
    assert "CREATE on the schema" in why
