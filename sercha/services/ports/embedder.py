"""Whatever makes vectors of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sercha.domain.embedding import Refused, Vector


class Embedder(Protocol):
    """One model at one endpoint."""

    async def embed(self, texts: Sequence[str]) -> list[Vector | Refused]:
        """Return a vector for each of *texts*, in their order; `Refused` for one that can have none.

        Cancelled, nothing is left behind. The same texts may be given again.

        Raises:
            Unavailable: the endpoint does not answer, or wants to be left alone for ``retry_after`` seconds
                (``embedder-away``).
            Rejected: it refuses everything: a wrong key, no such model, vectors of other dimensions
                (``embedder-refused``).
        """
        ...
