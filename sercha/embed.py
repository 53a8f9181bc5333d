"""The roles for other Trio applications: each runs in the caller's nursery with its own connections."""

from __future__ import annotations

from dataclasses import replace

import trio

from sercha.settings import Role, Settings
from sercha.supervisor import Running, run_roles


async def run_worker(
    settings: Settings,
    *,
    drain: trio.Event | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Work tasks until *drain* is set, then finish or give back within ``settings.shutdown_grace`` seconds.

    ``started()`` when tasks are claimed. Cancelled, it gives running tasks back (shielded, a few seconds at
    most). Raises what `sercha.supervisor.run_roles` raises.
    """
    # Settings made for an API name its port; a worker beside it must not want the same.
    port = settings.port if settings.role is Role.WORKER else None
    worker = replace(settings, role=Role.WORKER, port=port)
    await run_roles(worker, drain=drain, task_status=task_status)


async def run_api(
    settings: Settings,
    *,
    drain: trio.Event | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP until *drain* is set, then finish what is under way within the grace.

    ``started()`` when the API listens and its index has caught up; the value says where. Cancelled, it cuts
    off what is under way. Raises what `sercha.supervisor.run_roles` raises.
    """
    await run_roles(replace(settings, role=Role.API), drain=drain, task_status=task_status)
