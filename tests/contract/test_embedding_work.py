"""Vectors are made for all documents, once for each text, through crashes and changes of the model."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import trio

from sercha.adapters.postgres.retention import PostgresRetentionStore
from sercha.domain.embedding import Vector, content_hash
from sercha.services.embedding import BATCH_TEXTS, CHANNEL, SWAP_INTERVAL, EmbeddingWork
from sercha.services.ports.embeddings import EmbeddingProgress, ModelState, StoredModel
from tests.support.embedding_work import open_work, stored_model, want
from tests.support.embeddings import Answer, EmbeddingEndpoint, running_endpoint, vector_of
from tests.support.truth import Truth


async def work(truth: Truth, **options) -> EmbeddingWork:
    """Go round once."""
    async with open_work(truth, **options) as made:
        await made.work()
        return made


async def states(truth: Truth) -> dict[str, ModelState]:
    return {each.model.model: each.state for each in await truth.embeddings.models()}


async def done(truth: Truth, stored: StoredModel) -> EmbeddingProgress:
    return await truth.embeddings.progress(stored.name)


async def test_all_documents_get_their_vectors_and_equal_texts_share(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="red apples", b="green pears", c="red apples", d="")
    stored = await want(truth, stored_model(endpoint))

    await work(truth)

    assert await done(truth, stored) == EmbeddingProgress(documents=4, done=4)
    assert sorted(endpoint.answered) == ["\ngreen pears", "\nred apples"]
    packed = await truth.value(
        "SELECT vector FROM embedding WHERE content_hash = %s", content_hash("\nred apples")
    )
    assert packed == Vector.unit(vector_of("red apples")).packed
    assert await states(truth) == {"words": ModelState.CURRENT}

    await work(truth)
    assert len(endpoint.answered) == 2, "and nothing is asked for again"


async def test_hash_of_a_chunk_is_that_of_its_heading_and_text(truth: Truth) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="größere Bäume 東京 " * 400)

    assert await truth.value(
        """SELECT count(*) > 1 AND bool_and(c.content_hash = sha256(convert_to(c.heading || E'\n' ||
               substring(d.text FROM c.start_char + 1 FOR c.end_char - c.start_char), 'UTF8')))
           FROM chunk c JOIN document d ON d.id = c.document_id"""
    )


async def test_only_what_is_new_of_a_changed_document_is_asked_for(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    same = "This paragraph stays as it is. " * 60
    await truth.save(source.id, a=same + "\n\n" + "old end " * 200)
    stored = await want(truth, stored_model(endpoint))
    await work(truth)
    before = len(endpoint.answered)
    position = await truth.feed.register("an index")

    await truth.save(source.id, a=same + "\n\n" + "new end " * 200)
    assert (await done(truth, stored)).done == 0, "the vectors are of the version before"
    await work(truth)

    assert (await done(truth, stored)).done == 1
    assert before > 1
    assert not any(text.count("old end") > 5 for text in endpoint.answered[before:])
    assert max(Counter(endpoint.answered).values()) == 1
    batch = await truth.feed.poll(position)
    assert batch is not None
    await truth.feed.advance(position, batch.position)
    await truth.value("UPDATE document SET title = 'another'")
    await work(truth)
    following = await truth.feed.poll(batch.position)
    assert following is not None
    assert len(following.document_ids) == 1, "the feed hears of vectors too"
    assert len(endpoint.answered) == len(set(endpoint.answered))


async def test_cancelled_anywhere_nothing_is_lost_and_one_batch_at_most_is_made_again(
    truth: Truth, endpoint: EmbeddingEndpoint, seed: int
) -> None:
    random = Random(seed)
    source = await truth.add_source()
    texts = {f"d{n}": f"text number {n} " for n in range(400)}
    await truth.save(source.id, **texts)
    stored = await want(truth, stored_model(endpoint))

    cancellations = 0
    while (await done(truth, stored)).pending:
        assert cancellations < 500
        with trio.move_on_after(random.uniform(0.001, 0.15) + cancellations / 1000) as scope:
            await work(truth)
        cancellations += scope.cancelled_caught

    assert cancellations
    counts = Counter(endpoint.answered)
    assert len(counts) == 400
    assert sum(counts.values()) - 400 <= cancellations * BATCH_TEXTS
    assert await truth.value("SELECT count(*) FROM embedding WHERE vector IS NOT NULL") == 400


async def test_killed_between_the_answer_and_its_commit_one_batch_is_asked_for_again(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, **{f"d{n}": f"text number {n}" for n in range(3 * BATCH_TEXTS)})
    stored = await want(truth, stored_model(endpoint))
    async with open_work(truth) as made:
        keep = truth.embeddings.keep
        calls = 0

        async def keep_or_die(model: str, found) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise ConnectionError("killed")
            await keep(model, found)

        truth.embeddings.keep = keep_or_die  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            await made.work()
        truth.embeddings.keep = keep  # type: ignore[method-assign]

    await work(truth)

    assert (await done(truth, stored)).pending == 0
    counts = Counter(endpoint.answered)
    assert len(counts) == 3 * BATCH_TEXTS
    assert sum(counts.values()) - len(counts) <= BATCH_TEXTS


async def test_refused_text_stalls_nobody_and_is_not_sent_again(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    endpoint.refuse = lambda texts: Answer(400, {"error": "bad"}) if "\nbad" in texts else None
    source = await truth.add_source()
    await truth.save(source.id, a="good", b="bad", c="fine")
    stored = await want(truth, stored_model(endpoint))

    await work(truth)

    assert await done(truth, stored) == EmbeddingProgress(documents=3, done=3)
    assert await truth.value("SELECT count(*) FROM embedding WHERE vector IS NULL") == 1
    sent = len(endpoint.requests)
    await truth.save(source.id, d="bad")
    await work(truth)
    assert len(endpoint.requests) == sent


async def test_away_endpoint_is_said_and_all_is_made_up_for(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    endpoint.refuse = lambda texts: Answer(503, {"error": "starting"})
    source = await truth.add_source()
    await truth.save(source.id, a="one", b="two")
    stored = await want(truth, stored_model(endpoint))
    async with open_work(truth) as made, trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        with trio.fail_after(10):
            while not (made.state.errors and made.state.pending):
                await trio.sleep(0.01)
        assert "starting" in made.state.errors[stored.name]
        assert made.state.pending == 2

        endpoint.refuse = lambda texts: None
        with trio.fail_after(20):
            while (await states(truth)) != {"words": ModelState.CURRENT}:
                await trio.sleep(0.02)
        await truth.save(source.id, c="three")
        with trio.fail_after(5):
            while (await done(truth, stored)).done != 3:
                await trio.sleep(0.02)
        assert made.state.errors == {}
        nursery.cancel_scope.cancel()


async def test_current_model_answers_until_the_new_one_has_everything(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, **{f"d{n}": f"text {n}" for n in range(70)})
    old = await want(truth, stored_model(endpoint))
    await work(truth)
    with running_endpoint() as other:
        other.dimensions = 16
        new = await want(truth, stored_model(other, "better"))
        other.faults = [Answer(401, {"error": "no"})]

        await work(truth)
        assert await states(truth) == {"words": ModelState.CURRENT, "better": ModelState.FILLING}
        await truth.save(source.id, more="more text")
        other.faults = [Answer(401, {"error": "no"})]
        await work(truth)
        assert (await done(truth, old)).pending == 0, "also while another one is filled"
        assert "\nmore text" in endpoint.answered

        await work(truth)
        assert await states(truth) == {"better": ModelState.CURRENT}
        assert (await done(truth, new)).pending == 0
    assert await truth.value("SELECT state FROM embedding_model WHERE name = %s", old.name) == (
        "retired"
    )


async def test_new_model_waits_for_the_index_to_have_its_vectors(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    position = await truth.feed.register("vespa")
    await want(truth, stored_model(endpoint))

    async def has_all(moment: str) -> bool:
        return await truth.feed.covers(position, moment)

    async with open_work(truth, has_all=has_all) as made:
        await made.work()
        assert await states(truth) == {"words": ModelState.FILLING}

        batch = await truth.feed.poll(position)
        assert batch is not None
        await truth.feed.advance(position, batch.position)
        position = batch.position
        await made.work()
        assert await states(truth) == {"words": ModelState.CURRENT}


async def test_waiting_for_the_index_is_quiet(truth: Truth, endpoint: EmbeddingEndpoint) -> None:
    """It looks again after a while: what it does itself wakes it once, by the vectors that it made."""
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    await want(truth, stored_model(endpoint))
    asked, fourth = 0, trio.Event()

    async def has_all(moment: str) -> bool:
        nonlocal asked
        asked += 1
        if asked == 4:
            fourth.set()
        return asked > 4

    async with open_work(truth, has_all=has_all) as made, trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        begun = trio.current_time()
        with trio.fail_after(20):
            await fourth.wait()
        assert trio.current_time() - begun > 1.5 * SWAP_INTERVAL
        with truth.notices.subscribe(CHANNEL) as told, trio.fail_after(20):
            while await states(truth) != {"words": ModelState.CURRENT}:
                await told.wait()
        nursery.cancel_scope.cancel()


async def test_models_do_not_wait_for_each_other(truth: Truth, endpoint: EmbeddingEndpoint) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    old = await want(truth, stored_model(endpoint))
    await work(truth)
    with running_endpoint() as other:
        other.dimensions = 16
        other.opened.clear()
        await want(truth, stored_model(other, "better"))
        async with open_work(truth) as made, trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.to_thread.run_sync(other.arrived.wait)
            await truth.save(source.id, more="more text")
            with trio.fail_after(20):
                while (await done(truth, old)).pending:
                    await trio.sleep(0.02)
            assert not other.answered, "it hangs all the time"
            other.opened.set()
            with trio.fail_after(20):
                while await states(truth) != {"better": ModelState.CURRENT}:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()


async def test_change_of_mind_gives_up_what_was_filled(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    first = await want(truth, stored_model(endpoint, sealed_key=b"sealed"))
    await work(truth)
    await want(truth, stored_model(endpoint, "second"))
    await want(truth, stored_model(endpoint, "third"))
    assert await states(truth) == {"words": ModelState.CURRENT, "third": ModelState.FILLING}

    await want(truth, stored_model(endpoint, sealed_key=b"another"))
    [current] = await truth.embeddings.models()
    assert (current.state, current.sealed_key) == (ModelState.CURRENT, b"another")
    assert b"another" not in repr(current).encode()

    await want(truth, stored_model(endpoint, "second"))
    await work(truth)
    await want(truth, first)
    assert (await done(truth, first)).done == 0, "what is left of it may be half removed"
    await work(truth)
    assert await states(truth) == {"words": ModelState.CURRENT}
    assert (await done(truth, first)).pending == 0

    async with truth.pool.transaction() as tx:
        await truth.embeddings.clear(tx)
    assert await truth.embeddings.models() == []
    assert await truth.value("SELECT count(*) FROM embedding_model WHERE api_key IS NOT NULL") == 0


async def test_two_workers_at_once_do_no_harm(truth: Truth, endpoint: EmbeddingEndpoint) -> None:
    source = await truth.add_source()
    await truth.save(source.id, **{f"d{n}": f"text {n}" for n in range(200)})
    stored = await want(truth, stored_model(endpoint))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(work, truth)

    assert (await done(truth, stored)).pending == 0
    assert await states(truth) == {"words": ModelState.CURRENT}


async def test_deleted_documents_are_not_waited_for(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one", b="two")
    stored = await want(truth, stored_model(endpoint))
    await truth.delete(source.id, "a")

    await work(truth)

    assert await done(truth, stored) == EmbeddingProgress(documents=1, done=1)


async def test_vectors_that_nothing_needs_are_removed(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one", b="two", c="three")
    await want(truth, stored_model(endpoint))
    await work(truth)
    stored = await want(truth, stored_model(endpoint, "second"))
    await work(truth)
    await truth.delete(source.id, "a")
    retention = PostgresRetentionStore(truth.pool)

    assert await retention.remove_document_vectors(limit=2) == 2
    assert await retention.remove_document_vectors(limit=9) == 2
    assert await retention.remove_vectors(age=3600, limit=9) == 3
    assert await retention.remove_vectors(age=0, limit=9) == 1
    assert await retention.remove_vectors(age=0, limit=9) == 0

    assert await truth.value("SELECT count(*) FROM embedding_model") == 1
    assert await done(truth, stored) == EmbeddingProgress(documents=2, done=2)
