"""Tasks: what is queued, running and done."""

from __future__ import annotations

from pydantic import Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.domain.task import TaskState
from sercha.errors import NotFound
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import PAGE_LIMIT_MAX, Nothing, RequestModel
from sercha.roles.api.serialising import full_task

blueprint = Blueprint("tasks", __name__)


class TasksQuery(RequestModel):
    """Which tasks to list."""

    state: TaskState | None = None
    limit: int = Field(default=20, ge=1, le=PAGE_LIMIT_MAX)


@blueprint.get("/tasks")
@operation("List tasks", shapes.TasksResponse, role=Role.ADMIN, query=TasksQuery)
async def list_tasks(call: Call[Nothing, TasksQuery]) -> shapes.TasksResponse:
    """Return the latest tasks, and how many there are in each state."""
    queue = call.services.queue
    tasks = await queue.list(state=call.query.state, limit=call.query.limit)
    return shapes.TasksResponse(
        tasks=[full_task(task) for task in tasks], counts=await queue.counts()
    )


@blueprint.get("/tasks/<task_id>")
@operation("Show a task", shapes.Task, role=Role.ADMIN, errors=(404,))
async def show_task(call: Call[Nothing, Nothing]) -> shapes.Task:
    """Return one task."""
    task_id = call.uuid("task")
    task = await call.services.queue.get(task_id)
    if task is None:
        raise NotFound(f"task {task_id}: there is none", code="task-not-found")
    return full_task(task)
