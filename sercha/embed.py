"""The roles for other Trio applications: each runs in the caller's nursery with its own connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from sercha.services.attempt import Handler
from sercha.services.ports import TaskQueue
from sercha.settings import Role, Settings
from sercha.supervisor import Running, run_roles
from sercha.wiring import open_task_queue


async def run_worker(
    settings: Settings,
    *,
    handlers: Mapping[str, Handler] | None = None,
    drain: trio.Event | None = None,
    task_status: trio.TaskStatus[Running | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Work tasks until *drain* is set, then finish or give back within ``settings.shutdown_grace`` seconds.

    *handlers* work tasks of your own kinds, beside Sercha's; see `open_queue` for enqueuing them.
    ``started()`` when tasks are claimed; with None if *drain* was set before that. Cancelled, it gives running
    tasks back (shielded, a few seconds at most). Raises what `sercha.supervisor.run_roles` raises.
    """
    # Settings made for an API name its port; a worker beside it must not want the same.
    port = settings.port if settings.role is Role.WORKER else None
    worker = replace(settings, role=Role.WORKER, port=port)
    await run_roles(worker, drain=drain, handlers=handlers, task_status=task_status)


@asynccontextmanager
async def open_queue(settings: Settings) -> AsyncGenerator[TaskQueue]:
    """Open the queue for enqueuing tasks, for the block; the schema must be there.

    ``await queue.add([NewTask(kind, payload)])`` returns when the tasks are kept in PostgreSQL; with ``REDIS_URL``
    workers are told through Redis. Tasks that were being added when PostgreSQL went away (`Unavailable`) may
    have been kept: give them ids of your own (`new_id`) and add them again; `Conflict` says that they were.

    Raises:
        SettingsError: a setting is missing, or cannot be used.
    """
    async with open_task_queue(settings) as queue:
        yield queue


async def run_api(
    settings: Settings,
    *,
    drain: trio.Event | None = None,
    task_status: trio.TaskStatus[Running | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP until *drain* is set, then finish what is under way within the grace.

    ``started()`` when the API listens and its index has caught up; the value says where, and is None if *drain* was
    set before that. Cancelled, it cuts off what is under way. Raises what `sercha.supervisor.run_roles` raises.
    """
    await run_roles(replace(settings, role=Role.API), drain=drain, task_status=task_status)
