"""Tables that pgvector searches: made late, filled again, dropped, and never in the way of what works without them."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from urllib.parse import urlsplit, urlunsplit

import pytest
import trio

from sercha.adapters.embedded_index import EmbeddedIndex, open_embedded_index
from sercha.adapters.postgres import vector_tables
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.postgres.pgvector import as_text, filling_name, whole_name
from sercha.adapters.postgres.pool import open_pool
from sercha.adapters.postgres.retention import PostgresRetentionStore
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.cli.checks import Verdict
from sercha.cli.checks_vectors import check_vectors
from sercha.domain.embedding import EmbeddingModel, Vector
from sercha.domain.query import SearchMode, parse_query
from sercha.errors import Transient
from sercha.services import embedding
from sercha.services.embedders import open_embedders
from sercha.services.embedding import EmbeddingWork
from sercha.services.neighbour_search import NeighbourSearch
from sercha.services.ports.embeddings import ModelState, StoredModel
from sercha.services.ports.vector_search import QueryVector
from sercha.services.query_vectors import QueryVectors
from sercha.services.search import Search
from sercha.wiring.probes import probe_vectors
from tests.support.embedding_work import open_client, stored_model, want
from tests.support.embeddings import EmbeddingEndpoint, running_endpoint, vector_of
from tests.support.postgres import PostgresServer
from tests.support.search import EVERYONE
from tests.support.truth import Truth, open_truth

TEXTS = {"a": "an automobile", "b": "one physician", "c": "red apples", "d": "green pears"}


@pytest.fixture
async def truth(postgres_url: str) -> AsyncIterator[Truth]:
    async with open_truth(postgres_url) as truth:
        yield truth


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    with running_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def index(truth: Truth, tmp_path: Path) -> AsyncIterator[EmbeddedIndex]:
    async with open_embedded_index(tmp_path / "index") as index:
        yield index


async def fill_copy(truth: Truth, index: EmbeddedIndex) -> None:
    """Bring the copy of the words up to date."""
    async for ids in truth.feed.scan(batch=100):
        await index.apply(await truth.documents.read(ids), None)


def open_work(truth: Truth, embedders, tables: PostgresVectorTables) -> EmbeddingWork:
    return EmbeddingWork(truth.embeddings, embedders, truth.notices, tables=tables)


async def work(truth: Truth) -> EmbeddingWork:
    """Go round once, as a worker that has just started."""
    async with open_embedders(open_client) as embedders:
        made = open_work(truth, embedders, PostgresVectorTables(truth.pool))
        await made.work()
        return made


async def nearest(truth: Truth, stored: StoredModel, text: str) -> list[str] | None:
    """Return the documents in the order of their vectors, past the copy of the words."""
    vector = QueryVector(stored.name, Vector.unit(vector_of(text, stored.model.dimensions)))
    store = PostgresNeighbours(truth.pool)
    found = await store.nearest(parse_query(text), EVERYONE, vector, among=None, chunks=1000)
    if found is None:
        return None
    return [
        str(await truth.value("SELECT external_id FROM document WHERE id = %s", each.document_id))
        for each in found.nearest
    ]


async def tables_of(truth: Truth) -> list[str]:
    names = await truth.value(
        "SELECT array_agg(relname ORDER BY relname) FROM pg_class"
        " WHERE relkind = 'r' AND relname ~ '^embedding_(vector|filling)_'"
    )
    return names or []  # type: ignore[return-value]


async def states(truth: Truth) -> dict[str, ModelState]:
    return {each.model.model: each.state for each in await truth.embeddings.models()}


async def filled(truth: Truth, endpoint: EmbeddingEndpoint, **texts: str) -> StoredModel:
    """Save documents and make their vectors under a new model."""
    source = await truth.add_source()
    await truth.save(source.id, **(texts or TEXTS))
    stored = await want(truth, stored_model(endpoint))
    await work(truth)
    return stored


async def test_extension_and_table_are_made_and_the_model_becomes_current(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    stored = await filled(truth, endpoint)

    assert await states(truth) == {"words": ModelState.CURRENT}
    assert await tables_of(truth) == [whole_name(stored.name)]
    assert await truth.value("SELECT extname FROM pg_extension WHERE extname = 'vector'")
    assert await truth.value(
        "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%%hnsw%%vector_ip_ops%%'"
    )
    assert (await nearest(truth, stored, "car") or [])[0] == "a"
    assert (await nearest(truth, stored, "doctor") or [])[0] == "b"

    source = await truth.add_source("more")
    await truth.save(source.id, e="cars and cars")
    await work(truth)
    assert (await nearest(truth, stored, "car car") or [])[0] in {"a", "e"}
    assert "e" in (await nearest(truth, stored, "car") or []), "what is made later is there at once"


async def test_vectors_kept_before_there_was_a_table_are_filled_in(
    truth: Truth, endpoint: EmbeddingEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_tables, "BATCH", 7)
    source = await truth.add_source()
    await truth.save(source.id, **{f"d{n}": f"text {n}" for n in range(50)})
    stored = await want(truth, stored_model(endpoint))
    async with open_embedders(open_client) as embedders:
        await EmbeddingWork(truth.embeddings, embedders, truth.notices).work()
    assert await tables_of(truth) == []
    asked = len(endpoint.requests)

    assert await PostgresVectorTables(truth.pool).complete(stored.model) is None

    assert await truth.value(f"SELECT count(*) FROM {whole_name(stored.name)}") == 50
    assert len(endpoint.requests) == asked, "and nothing is made anew"
    assert len(await nearest(truth, stored, "text") or []) == 50


@pytest.mark.parametrize("loss", ["table", "extension", "rows"])
async def test_what_a_restore_has_lost_is_filled_in_again_and_text_answers_until_then(
    truth: Truth, endpoint: EmbeddingEndpoint, index: EmbeddedIndex, loss: str
) -> None:
    stored = await filled(truth, endpoint)
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
        await work(truth)

        assert await modes(search) == [SearchMode.SEMANTIC, SearchMode.HYBRID]
        assert (await PostgresNeighbours(truth.pool).state()).is_usable
    assert len(await nearest(truth, stored, "car") or []) == 4
    assert endpoint.answered[asked:] == []


def make_search(truth: Truth, index: EmbeddedIndex, embedders) -> Search:
    vectors = QueryVectors(truth.embeddings, embedders)
    by_vector = NeighbourSearch(index, PostgresNeighbours(truth.pool))
    return Search(index, truth.documents, vectors, by_vector)


async def modes(search: Search) -> list[SearchMode]:
    """Search in both modes; which ones answered."""
    both = [SearchMode.SEMANTIC, SearchMode.HYBRID]
    pages = [await search.search(parse_query("automobile", mode=mode), EVERYONE) for mode in both]
    assert all(page.results[0].document.external_id == "a" for page in pages)
    return [page.mode for page in pages]


@pytest.fixture
def limited_url(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """Give the database to a role that may make tables there, and no extension."""
    database = urlsplit(postgres_url).path[1:]
    role = f"limited_{database[-8:]}"
    postgres_server.execute(f'CREATE ROLE "{role}" LOGIN')
    postgres_server.execute(f'GRANT pg_monitor TO "{role}"')
    postgres_server.execute(f'ALTER DATABASE "{database}" OWNER TO "{role}"')
    postgres_server.execute(f'GRANT ALL ON SCHEMA public TO "{role}"', database)
    parts = urlsplit(postgres_url)
    yield urlunsplit(parts._replace(netloc=f"{role}@"))
    postgres_server.drop_database(database)
    postgres_server.execute(f'DROP ROLE "{role}"')


async def test_extension_that_we_may_not_add_is_asked_for_and_comes_late(
    postgres_server: PostgresServer,
    limited_url: str,
    tmp_path: Path,
    endpoint: EmbeddingEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "POLL_INTERVAL", 0.1)
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
        made = open_work(truth, embedders, PostgresVectorTables(truth.pool))
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
        nursery.cancel_scope.cancel()


async def test_old_version_and_a_server_without_it_are_told_apart(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    stored = await filled(truth, endpoint)
    await truth.value("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")

    why = await PostgresVectorTables(truth.pool).complete(stored.model)

    assert why is not None
    assert "0.7.4 is too old" in why
    assert "ALTER EXTENSION vector UPDATE" in why
    assert await nearest(truth, stored, "car") is None
    await truth.value("UPDATE pg_extension SET extversion = '0.10.0' WHERE extname = 'vector'")
    assert await PostgresVectorTables(truth.pool).complete(stored.model) is None


async def test_extension_in_another_schema_is_used(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    await truth.value('CREATE SCHEMA "Some Where"')
    await truth.value('CREATE EXTENSION vector SCHEMA "Some Where"')

    stored = await filled(truth, endpoint)

    assert (await nearest(truth, stored, "car") or [])[0] == "a"


@pytest.mark.parametrize(
    ("dimensions", "kind", "is_indexed"),
    [(1, "vector", True), (2000, "vector", True), (2001, "halfvec", True), (4000, "halfvec", True),
     (4001, "vector", False), (4096, "vector", False)],
)  # fmt: skip
async def test_vectors_of_all_sizes_are_found(
    truth: Truth, endpoint: EmbeddingEndpoint, dimensions: int, kind: str, is_indexed: bool
) -> None:
    endpoint.dimensions = dimensions

    stored = await filled(truth, endpoint)

    column = await truth.value(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{whole_name(stored.name)}'::regclass AND attname = 'vector'"
    )
    assert column == f"{kind}({dimensions})"
    indexes = await truth.value(
        "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE %s", f"%hnsw%{kind}_ip_ops%"
    )
    assert indexes == int(is_indexed)
    found = await nearest(truth, stored, "car") or []
    assert len(found) == 4
    if dimensions > 1:
        assert found[0] == "a"


async def test_retired_model_loses_its_table_and_unneeded_texts_their_rows(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    old = await filled(truth, endpoint)
    new = await want(truth, stored_model(endpoint, "second"))
    await work(truth)
    assert await tables_of(truth) == sorted([whole_name(old.name), whole_name(new.name)])
    source = await truth.value("SELECT id FROM source")
    await truth.delete(source, "a")  # type: ignore[arg-type]
    retention = PostgresRetentionStore(truth.pool)
    await retention.remove_document_vectors(limit=100)

    await retention.remove_vectors(age=3600, limit=100)
    assert await tables_of(truth) == [whole_name(new.name)]
    assert await truth.value(f"SELECT count(*) FROM {whole_name(new.name)}") == 4
    await retention.remove_vectors(age=0, limit=100)
    assert await truth.value(f"SELECT count(*) FROM {whole_name(new.name)}") == 3

    assert await nearest(truth, old, "car") is None
    await want(truth, old)
    await work(truth)
    assert len(await nearest(truth, old, "car") or []) == 3, "and it can be wanted back"
    async with truth.pool.transaction() as tx:
        await truth.embeddings.clear(tx)
    await retention.remove_vectors(age=3600, limit=100)
    assert await tables_of(truth) == []


async def test_old_model_answers_until_the_new_ones_table_is_whole(
    truth: Truth, endpoint: EmbeddingEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await filled(truth, endpoint)
    new = await want(truth, stored_model(endpoint, "second"))
    tables = PostgresVectorTables(truth.pool)

    async def refuse(model: EmbeddingModel) -> str | None:
        await trio.lowlevel.checkpoint()
        return None if model == old.model else "no room"

    async with open_embedders(open_client) as embedders:
        made = open_work(truth, embedders, tables)
        monkeypatch.setattr(tables, "complete", refuse)
        await made.work()
        assert await states(truth) == {"words": ModelState.CURRENT, "second": ModelState.FILLING}
        assert made.state.errors == {new.name: "no room"}
        assert len(await nearest(truth, old, "car") or []) == 4
        monkeypatch.undo()
        await made.work()
    assert await states(truth) == {"second": ModelState.CURRENT}
    assert made.state.errors == {}
    assert len(await nearest(truth, new, "car") or []) == 4


async def keep(truth: Truth, stored: StoredModel, numbers: range) -> None:
    for number in numbers:
        vector = Vector.unit(vector_of(f"text {number}"))
        await truth.embeddings.keep(stored.name, {f"{number}".encode(): vector})


async def test_nothing_is_left_out_that_is_kept_while_the_table_is_made(
    truth: Truth, endpoint: EmbeddingEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several make it at once while others keep: in the end it holds what is kept, no less."""
    monkeypatch.setattr(vector_tables, "BATCH", 5)
    for round_ in range(5):
        stored = await want(truth, stored_model(endpoint, f"m{round_}"))
        await keep(truth, stored, range(20))
        async with trio.open_nursery() as nursery:
            for start in (100, 200, 300):
                nursery.start_soon(keep_retried, truth, stored, range(start, start + 40))
            for _ in range(3):
                nursery.start_soon(PostgresVectorTables(truth.pool).complete, stored.model)

        missing = await truth.value(
            f"SELECT count(*) FROM embedding e WHERE model = %s AND NOT EXISTS (SELECT 1 FROM"
            f" {whole_name(stored.name)} v WHERE v.content_hash = e.content_hash)",
            stored.name,
        )
        assert missing == 0
        assert await truth.value(f"SELECT count(*) FROM {whole_name(stored.name)}") == 140


async def keep_retried(truth: Truth, stored: StoredModel, numbers: range) -> None:
    for number in numbers:
        while True:
            try:
                await keep(truth, stored, range(number, number + 1))
            except Transient:
                continue
            break


async def test_cancelled_anywhere_it_goes_on_where_it_was(
    truth: Truth, endpoint: EmbeddingEndpoint, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(vector_tables, "BATCH", 20)
    random = Random(seed)
    stored = await want(truth, stored_model(endpoint))
    await keep(truth, stored, range(200))
    tables = PostgresVectorTables(truth.pool)

    cancellations, is_done = 0, False
    while not is_done:
        assert cancellations < 300
        with trio.move_on_after(random.uniform(0.001, 0.05) + cancellations / 1000):
            is_done = await tables.complete(stored.model) is None
        cancellations += not is_done

    assert cancellations
    assert await tables_of(truth) == [whole_name(stored.name)]
    assert await truth.value(f"SELECT count(*) FROM {whole_name(stored.name)}") == 200
    assert filling_name(stored.name) not in await tables_of(truth)


async def test_locked_table_holds_no_search_up_for_long(
    truth: Truth, endpoint: EmbeddingEndpoint, index: EmbeddedIndex
) -> None:
    stored = await filled(truth, endpoint)
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
    await filled(truth, endpoint)
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


def test_vectors_are_written_to_the_last_bit(seed: int) -> None:
    random = Random(seed)
    vector = Vector.unit([random.gauss(0, 1) for _ in range(300)])

    read = [float(each) for each in as_text(vector)[1:-1].split(",")]

    assert array("f", read) == array("f", vector.values())
