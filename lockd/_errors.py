"""What can go wrong with a lease, by what the caller can do about it.

::

    LockdError
     ├── LeaseTaken         somebody else holds it: wait, or do without
     ├── LeaseLost          it was ours and is not any more: stop, whatever was planned
     └── StoreUnreachable   nobody knows: try again later
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID


class LossReason(StrEnum):
    """Why a lease was lost."""

    EXPIRED = "expired"
    """No renewal succeeded in time, or this process stood still for too long."""
    SUSPENDED = "suspended"
    """The machine slept: the clock that counts sleep is past the deadline, the other one is not."""
    LATE = "late"
    """A renewal succeeded after the deadline. By then the work had been told to stop."""
    TAKEN = "taken"
    """The store names another holder."""
    GONE = "gone"
    """The store knows nothing of the lease: it forgot, and somebody may have come and gone meanwhile."""
    FENCED = "fenced"
    """The fence has a newer token: whoever took it may have acted already."""
    RELEASED = "released"
    """The block that held the lease has been left."""


class LockdError(Exception):
    """The base of everything that lockd raises on purpose."""


class LeaseTaken(LockdError):
    """Somebody else holds the lease; only with ``on_busy="raise"``."""

    def __init__(self, name: str, holder: UUID | None, remaining: float | None) -> None:
        super().__init__(f"lease {name!r} is held by {holder or 'somebody else'}")
        self.name = name
        self.holder = holder
        self.remaining = remaining
        """Seconds until the store lets go of it unless it is renewed; None where the store does not say."""


class LeaseLost(LockdError):
    """The lease was lost; its scope has been cancelled. Nothing may be done in its name any more."""

    def __init__(self, name: str, reason: LossReason) -> None:
        super().__init__(f"lease {name!r} was lost: {reason}")
        self.name = name
        self.reason = reason


class StoreUnreachable(LockdError):
    """A store gave no usable answer; a request may have been carried out all the same."""

    def __init__(self, message: str, *, refusal: str | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal
        """The word that names a server's refusal (``READONLY``); None when there was no clear answer."""


class FenceRefused(Exception):
    """For stores: the fence does not name this holder and token. `Lease.fenced` turns it into `LeaseLost`."""
