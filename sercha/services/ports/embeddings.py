"""Models, vectors by text, and which documents have theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from sercha.domain.document import DocumentId
from sercha.domain.embedding import EmbeddingModel, Refused, Vector
from sercha.services.ports.database import Transaction


class ModelState(StrEnum):
    """What a model is there for."""

    FILLING = "filling"
    """Its vectors are being made; searches do not use it yet."""
    CURRENT = "current"
    """Searches use it."""
    RETIRED = "retired"
    """Another one took its place; what is left of it is removed."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model with all that it takes to ask its endpoint."""

    model: EmbeddingModel
    provider: str
    state: ModelState = ModelState.FILLING
    sealed_key: bytes | None = field(default=None, repr=False)
    requests_per_minute: int | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class EmbeddingProgress:
    """How far the vectors of one model are."""

    documents: int
    """Live documents."""
    done: int
    """Those of them whose present version has its vectors."""

    @property
    def pending(self) -> int:
        """Documents whose vectors are still to be made."""
        return self.documents - self.done


class EmbeddingStore(Protocol):
    """What is known of vectors; a vector, once kept, is the one of its text and model for good."""

    async def models(self) -> list[StoredModel]:
        """The current one, where there is one, then the one that is being filled."""
        ...

    async def configure(
        self, tx: Transaction, stored: StoredModel, *, changed_by: UUID | None
    ) -> None:
        """Let *stored* be the model that is wanted.

        One that is current already takes the new key, and whatever was to replace it is given up. Any other one is
        filled, in the place of the one that was being filled; all processes are told when *tx* commits.
        """
        ...

    async def clear(self, tx: Transaction) -> None:
        """Want no model any more."""
        ...

    async def lacking(
        self, model: str, *, after: DocumentId, limit: int
    ) -> list[tuple[DocumentId, int]]:
        """Documents above *after* whose present version has no vectors yet, ascending, with their sizes in bytes."""
        ...

    async def missing(self, model: str, document_ids: Sequence[DocumentId]) -> dict[bytes, str]:
        """The texts of these documents that are not kept, by hash."""
        ...

    async def keep(self, model: str, found: Mapping[bytes, Vector | Refused]) -> None:
        """Keep vectors by hash, and which texts can have none."""
        ...

    async def complete(self, model: str, document_ids: Sequence[DocumentId]) -> int:
        """Note which of these documents have all their vectors, and tell the feed; how many there were."""
        ...

    async def progress(self, model: str) -> EmbeddingProgress: ...

    async def moment(self) -> str:
        """The present, as a ``pg_snapshot``."""
        ...

    async def promote(self, model: str) -> bool:
        """Let *model* be current, if it is being filled and no document lacks vectors; whether it is.

        The one that was current is retired, and all processes are told.
        """
        ...
