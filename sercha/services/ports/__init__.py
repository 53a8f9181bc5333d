"""What the services need from the outside, as protocols; adapters implement them.

Everywhere: a call that is cancelled has either happened completely or not at all as far as the caller may
rely on it; errors of drivers are translated to `sercha.errors` inside the adapter, once.
"""

from sercha.services.ports.accounts import AccountStore, Node, NodeStore, Passwords, Tokens
from sercha.services.ports.connector import Connector, Item, ItemPage, TextExtractor
from sercha.services.ports.database import Clock, Database, Transaction
from sercha.services.ports.dispatch import Delivery, Dispatch
from sercha.services.ports.documents import DocumentStore, KnownItem, Passage, SourceStore
from sercha.services.ports.schedules import DueSchedule, ScheduleStore, SlotRecord
from sercha.services.ports.search import (
    Change,
    ChangeBatch,
    ChangeFeed,
    DocumentVersion,
    FeedPosition,
    IndexHit,
    IndexPage,
    SearchIndex,
    VerifyReport,
)
from sercha.services.ports.tasks import Notices, Subscription, TaskQueue

__all__ = [
    "AccountStore",
    "Change",
    "ChangeBatch",
    "ChangeFeed",
    "Clock",
    "Connector",
    "Database",
    "Delivery",
    "Dispatch",
    "DocumentStore",
    "DocumentVersion",
    "DueSchedule",
    "FeedPosition",
    "IndexHit",
    "IndexPage",
    "Item",
    "ItemPage",
    "KnownItem",
    "Node",
    "NodeStore",
    "Notices",
    "Passage",
    "Passwords",
    "ScheduleStore",
    "SearchIndex",
    "SlotRecord",
    "SourceStore",
    "Subscription",
    "TaskQueue",
    "TextExtractor",
    "Tokens",
    "Transaction",
    "VerifyReport",
]
