"""Leases for Trio programs: who may act, until when, and how the others can tell.

Importing this package needs nothing but Trio. Stores on servers are in `lockd.redis` and `lockd.postgres`, which
need their drivers (the extras of the same names).
"""

from lockd._clock import Clock, Instant, SystemClock, Watchdog
from lockd._errors import (
    FenceRefused,
    LeaseLost,
    LeaseTaken,
    LockdError,
    LossReason,
    StoreUnreachable,
)
from lockd._fence import Fence
from lockd._hold import OnBusy, OnOverrun, hold, lead
from lockd._lease import Lease, LeaseState
from lockd._memory import MemoryStore
from lockd._observe import EventKind, LeaseEvent, LeaseStatistics, Observer
from lockd._store import (
    Busy,
    FenceRow,
    Granted,
    Inspection,
    LeaseStore,
    Notices,
    Renewal,
)

__all__ = [
    "Busy",
    "Clock",
    "EventKind",
    "Fence",
    "FenceRefused",
    "FenceRow",
    "Granted",
    "Inspection",
    "Instant",
    "Lease",
    "LeaseEvent",
    "LeaseLost",
    "LeaseState",
    "LeaseStatistics",
    "LeaseStore",
    "LeaseTaken",
    "LockdError",
    "LossReason",
    "MemoryStore",
    "Notices",
    "Observer",
    "OnBusy",
    "OnOverrun",
    "Renewal",
    "StoreUnreachable",
    "SystemClock",
    "Watchdog",
    "hold",
    "lead",
]
