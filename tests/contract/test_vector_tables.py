"""Tables that pgvector searches: filled with what was kept before, by several at once, and dropped."""

from __future__ import annotations

from array import array
from random import Random

import pytest
import trio

from sercha.adapters.postgres import embedding_sql, vector_tables
from sercha.adapters.postgres.pgvector import add_vectors, as_text, filling_name, whole_name
from sercha.adapters.postgres.retention import PostgresRetentionStore
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.domain.embedding import EmbeddingModel, Vector
from sercha.errors import Transient
from sercha.services.embedders import open_embedders
from sercha.services.embedding import EmbeddingWork
from sercha.services.ports.embeddings import ModelState, StoredModel
from tests.support.embedding_work import open_client, stored_model, want
from tests.support.embeddings import EmbeddingEndpoint, vector_of
from tests.support.truth import Truth
from tests.support.vector_tables import (
    fill,
    make_work,
    nearest,
    states,
    tables_of,
    work_once,
)


async def test_extension_and_table_are_made_and_the_model_becomes_current(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    stored = await fill(truth, endpoint)

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
    await work_once(truth)
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


async def test_extension_in_another_schema_is_used(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    await truth.value('CREATE SCHEMA "Some Where"')
    await truth.value('CREATE EXTENSION vector SCHEMA "Some Where"')

    stored = await fill(truth, endpoint)

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

    stored = await fill(truth, endpoint)

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
    old = await fill(truth, endpoint)
    new = await want(truth, stored_model(endpoint, "second"))
    await work_once(truth)
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
    await work_once(truth)
    assert len(await nearest(truth, old, "car") or []) == 3, "and it can be wanted back"
    async with truth.pool.transaction() as tx:
        await truth.embeddings.clear(tx)
    await retention.remove_vectors(age=3600, limit=100)
    assert await tables_of(truth) == []


async def test_old_model_answers_until_the_new_ones_table_is_whole(
    truth: Truth, endpoint: EmbeddingEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await fill(truth, endpoint)
    new = await want(truth, stored_model(endpoint, "second"))
    tables = PostgresVectorTables(truth.pool)

    async def refuse(model: EmbeddingModel) -> str | None:
        await trio.lowlevel.checkpoint()
        return None if model == old.model else "no room"

    async with open_embedders(open_client) as embedders:
        made = make_work(truth, embedders, tables)
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


async def test_table_waits_for_those_who_keep_before_they_could_see_it(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    stored = await want(truth, stored_model(endpoint))
    await keep(truth, stored, range(3))
    vector = Vector.unit(vector_of("late"))
    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        values = {"model": stored.name, "hashes": [b"late"], "vectors": [vector.packed]}
        await tx.connection.execute(embedding_sql.KEEP, values)
        await add_vectors(tx.connection, stored.name, {b"late": vector})
        nursery.start_soon(PostgresVectorTables(truth.pool).complete, stored.model)
        await truth.blocked(1)

    assert await truth.value(f"SELECT count(*) FROM {whole_name(stored.name)}") == 4


async def test_table_gets_its_name_when_nobody_looks_for_it_under_the_old_one(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    stored = await want(truth, stored_model(endpoint))
    await keep(truth, stored, range(3))
    tables = PostgresVectorTables(truth.pool)
    await tables._make(stored.model, await tables._extension())
    vector = Vector.unit(vector_of("late"))
    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        values = {"model": stored.name, "hashes": [b"late"], "vectors": [vector.packed]}
        await tx.connection.execute(embedding_sql.KEEP, values)
        nursery.start_soon(tables.complete, stored.model)
        await truth.blocked(1)
        await add_vectors(tx.connection, stored.name, {b"late": vector})

    assert await tables_of(truth) == [whole_name(stored.name)]
    assert await truth.value(f"SELECT count(*) FROM {whole_name(stored.name)}") == 4


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


def test_vectors_are_written_to_the_last_bit(seed: int) -> None:
    random = Random(seed)
    vector = Vector.unit([random.gauss(0, 1) for _ in range(300)])

    read = [float(each) for each in as_text(vector)[1:-1].split(",")]

    assert array("f", read) == array("f", vector.values())
