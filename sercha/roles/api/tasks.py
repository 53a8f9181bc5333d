"""Tasks: what is queued, running and done; ask for one, put one back, cancel one."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from pydantic import Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.domain.task import TaskKind, TaskState
from sercha.errors import NotFound
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import PAGE_LIMIT_MAX, Nothing, RequestModel
from sercha.roles.api.serialising import full_task
from sercha.services.ports.task_admin import TaskFilter
from sercha.services.task_kinds import task_of

blueprint = Blueprint("tasks", __name__)


class TasksQuery(RequestModel):
    """Which tasks to list."""

    state: TaskState | None = None
    kind: str | None = None
    source_id: UUID | None = None
    before: UUID | None = None
    limit: int = Field(default=20, ge=1, le=PAGE_LIMIT_MAX)


class GeneralKind(StrEnum):
    """Tasks that concern all of Sercha; a sync of one source is asked for at the source."""

    SYNC_ALL = TaskKind.SYNC_ALL
    REINDEX = TaskKind.REINDEX
    PRUNE = TaskKind.PRUNE


class AddTaskRequest(RequestModel):
    """What is to be done."""

    kind: GeneralKind


@blueprint.get("/tasks")
@operation("List tasks", shapes.TasksResponse, role=Role.ADMIN, query=TasksQuery)
async def list_tasks(call: Call[Nothing, TasksQuery]) -> shapes.TasksResponse:
    """Return one page of tasks, the newest first, and how many there are in each state."""
    admin, query = call.services.task_admin, call.query
    chosen = TaskFilter(
        state=query.state, kind=query.kind, source_id=query.source_id, before=query.before
    )
    tasks = await admin.list(chosen, limit=query.limit)
    return shapes.TasksResponse(
        tasks=[full_task(task) for task in tasks], counts=await admin.counts()
    )


@blueprint.post("/tasks")
@operation(
    "Ask for a task",
    shapes.TaskAcceptedResponse,
    role=Role.ADMIN,
    body=AddTaskRequest,
    status=202,
)
async def add_task(call: Call[AddTaskRequest, Nothing]) -> shapes.TaskAcceptedResponse:
    """Ask for a task that concerns all of Sercha; one that waits already answers further requests."""
    (task_id,) = await call.services.queue.add([task_of(call.body.kind)])
    return shapes.TaskAcceptedResponse(task_id=task_id)


@blueprint.get("/tasks/<task_id>")
@operation("Show a task", shapes.Task, role=Role.ADMIN, errors=(404,))
async def show_task(call: Call[Nothing, Nothing]) -> shapes.Task:
    """Return one task."""
    task_id = call.uuid("task")
    task = await call.services.task_admin.get(task_id)
    if task is None:
        raise NotFound(f"task {task_id}: there is none", code="task-not-found")
    return full_task(task)


@blueprint.post("/tasks/<task_id>/retry")
@operation(
    "Retry a task",
    shapes.TaskAcceptedResponse,
    role=Role.ADMIN,
    status=202,
    errors=(404, 409, 503),
)
async def retry_task(call: Call[Nothing, Nothing]) -> shapes.TaskAcceptedResponse:
    """Put a dead or cancelled task back into the queue, or name the one that waits in its place."""
    task_id = await call.services.task_admin.retry(call.uuid("task"))
    return shapes.TaskAcceptedResponse(task_id=task_id)


@blueprint.post("/tasks/<task_id>/cancel")
@operation("Cancel a task", shapes.Status, role=Role.ADMIN, errors=(404, 409, 503))
async def cancel_task(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Cancel a task that waits or runs; what it has committed stays."""
    await call.services.task_admin.cancel(call.uuid("task"))
    return shapes.Status()
