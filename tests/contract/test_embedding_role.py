"""Of all workers the one with the lease makes vectors; another one goes on when that is drained."""

from __future__ import annotations

from functools import partial

import trio

from sercha.adapters.postgres.leases import open_postgres_leases
from sercha.roles.embedding import Embedding
from sercha.services.ports.embeddings import EmbeddingProgress
from tests.support.embedding_work import open_work, stored_model, want
from tests.support.embeddings import running_endpoint
from tests.support.truth import open_truth


async def test_drained_worker_hands_over_in_the_middle(postgres_url: str) -> None:
    with running_endpoint() as endpoint:
        async with (
            open_truth(postgres_url) as truth,
            open_postgres_leases(truth.pool, max_open=20) as leases,
            open_work(truth) as first,
            open_work(truth) as second,
            trio.open_nursery() as nursery,
        ):
            source = await truth.add_source()
            await truth.save(source.id, **{f"d{n}": f"text {n}" for n in range(130)})
            stored = await want(truth, stored_model(endpoint))
            drains = trio.Event(), trio.Event()
            roles: list[Embedding] = []
            endpoint.opened.clear()
            for drain, made in zip(drains, (first, second), strict=True):
                roles.append(Embedding(made, leases))
                await nursery.start(partial(roles[-1].run, drain=drain))
                with trio.fail_after(10):
                    await trio.to_thread.run_sync(endpoint.arrived.wait, 10)

            assert (await roles[0].probe()).is_healthy
            assert (await roles[1].probe()).message == "another process makes vectors"
            assert len(endpoint.requests) == 1
            drains[0].set()
            endpoint.opened.set()
            with trio.fail_after(30):
                while (await truth.embeddings.progress(stored.name)).pending:
                    await trio.sleep(0.02)

            progress = await truth.embeddings.progress(stored.name)
            assert progress == EmbeddingProgress(documents=130, done=130)
            assert (await roles[1].probe()).message == "0 documents wait"
            assert len(endpoint.answered) <= 130 + 64
            nursery.cancel_scope.cancel()
