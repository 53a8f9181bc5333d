"""The copies of the index, as the truth knows them."""

from __future__ import annotations

from typing import Protocol

from sercha.services.ports.database import Transaction


class CopyStore(Protocol):
    """Which copies follow the change feed."""

    async def forget_all(self, tx: Transaction) -> int:
        """Forget where all copies are when *tx* commits, and tell them: each rebuilds. How many there were."""
        ...
