"""The vector of what somebody looks for, in time or not at all."""

from __future__ import annotations

from collections import OrderedDict

import structlog
import trio

from sercha.domain.embedding import Vector
from sercha.errors import SerchaError
from sercha.services.embedders import Embedders
from sercha.services.ports.embeddings import EmbeddingStore, ModelState, StoredModel
from sercha.services.ports.vector_search import QueryVector

QUERY_SECONDS = 2.0
"""How long a search waits for its vector; then it is answered by text."""
LOOK_SECONDS = 2.0
"""How long it may go unnoticed that another model is current."""
AWAY_SECONDS = 5.0
"""How long nobody waits for an endpoint that has failed: only then it is asked again."""
KEPT = 512
"""Queries whose vectors are remembered."""

_log = structlog.get_logger()


class QueryVectors:
    """Vectors under whichever model is current, in one process."""

    def __init__(
        self, store: EmbeddingStore, embedders: Embedders, *, seconds: float = QUERY_SECONDS
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._seconds = seconds
        self._current: StoredModel | None = None
        self._looked_at = float("-inf")
        self._away_until = float("-inf")
        self._known: OrderedDict[tuple[str, str], Vector] = OrderedDict()

    async def current(self) -> StoredModel | None:
        """Return the model that searches use; None: there is none."""
        if trio.current_time() > self._looked_at + LOOK_SECONDS:
            models = await self._store.models()
            self._looked_at = trio.current_time()
            found = next((each for each in models if each.state is ModelState.CURRENT), None)
            if found != self._current:
                self._current, self._away_until = found, float("-inf")
        return self._current

    async def find(self, text: str) -> QueryVector | None:
        """Return the vector of *text*; None: there is no model, or it did not answer in time."""
        stored = await self.current()
        if stored is None:
            return None
        key = (stored.name, text)
        vector = self._known.get(key)
        if vector is None:
            vector = await self._ask(stored, text)
            if vector is None:
                return None
            self._known[key] = vector
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return QueryVector(stored.name, vector)

    async def _ask(self, stored: StoredModel, text: str) -> Vector | None:
        if trio.current_time() < self._away_until:
            return None
        why = f"no answer within {self._seconds:g} s"
        with trio.move_on_after(self._seconds):
            try:
                [vector] = await (await self._embedders.get(stored)).embed([text])
            except SerchaError as error:
                why = error.message
            else:
                return vector if isinstance(vector, Vector) else None
        self._away_until = trio.current_time() + AWAY_SECONDS
        _log.warning("search.no_vector", model=stored.name, error=why)
        return None
