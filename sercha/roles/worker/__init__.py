"""The role that works tasks."""

from sercha.roles.worker.intake import CHANNEL
from sercha.roles.worker.worker import Worker, WorkerSettings, WorkerStatistics

__all__ = ["CHANNEL", "Worker", "WorkerSettings", "WorkerStatistics"]
