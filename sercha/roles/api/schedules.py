"""Schedules: make, change, pause, run, and what became of their slots."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.domain.schedule import CatchUp, ScheduleKind
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, OptionalText, PageQuery, RequestModel
from sercha.roles.api.schedule_shapes import (
    RunAcceptedResponse,
    ScheduleDetails,
    SchedulesResponse,
    SlotsResponse,
    full_schedule,
    full_slot,
    schedule_details,
)
from sercha.services.schedules import ScheduleChange

blueprint = Blueprint("schedules", __name__)

Whole = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class ScheduleFields(RequestModel):
    """What a schedule says; the services know what is allowed."""

    name: str | None = None
    kind: ScheduleKind | None = None
    spec: str | None = None
    tz: str | None = None
    anchor: AwareDatetime | None = None
    task_kind: str | None = None
    payload: dict[str, Any] | None = None
    priority: Whole | None = None
    catch_up: CatchUp | None = None
    runs_max: Whole | None = None
    max_late: Whole | None = None

    def asked(self) -> ScheduleChange:
        """Return what is asked for."""
        values = {name: getattr(self, name) for name in ScheduleFields.model_fields}
        return ScheduleChange(**values)


class CreateScheduleRequest(ScheduleFields):
    """A new schedule; ``name``, ``kind``, ``spec`` and ``task_kind`` must be given."""

    enabled: bool = True


class UpdateScheduleRequest(ScheduleFields):
    """What to change of a version; the rest stays."""

    version: int = Field(ge=1, le=2**63 - 1)


class SchedulesQuery(PageQuery):
    """Which schedules to list."""

    source_id: UUID | None = None
    name: OptionalText = None


@blueprint.get("/schedules")
@operation("List schedules", SchedulesResponse, role=Role.ADMIN, query=SchedulesQuery)
async def list_schedules(call: Call[Nothing, SchedulesQuery]) -> SchedulesResponse:
    """Return one page of schedules by name."""
    query = call.query
    page = await call.services.schedules.list(
        source_id=query.source_id, name=query.name, limit=query.limit, offset=query.offset
    )
    return SchedulesResponse(
        schedules=[full_schedule(each) for each in page.schedules],
        total=page.total,
        limit=query.limit,
        offset=query.offset,
    )


@blueprint.post("/schedules")
@operation(
    "Add a schedule",
    ScheduleDetails,
    role=Role.ADMIN,
    body=CreateScheduleRequest,
    status=201,
    errors=(409,),
)
async def create_schedule(call: Call[CreateScheduleRequest, Nothing]) -> ScheduleDetails:
    """Add a schedule; its first slot is after now."""
    made = await call.services.schedules.create(call.body.asked(), enabled=call.body.enabled)
    return schedule_details(made)


@blueprint.get("/schedules/<schedule_id>")
@operation("Show a schedule", ScheduleDetails, role=Role.ADMIN, errors=(404,))
async def show_schedule(call: Call[Nothing, Nothing]) -> ScheduleDetails:
    """Return one schedule with its next slots."""
    return schedule_details(await call.services.schedules.get(call.uuid("schedule")))


@blueprint.put("/schedules/<schedule_id>")
@operation(
    "Change a schedule",
    ScheduleDetails,
    role=Role.ADMIN,
    body=UpdateScheduleRequest,
    errors=(404, 409),
)
async def update_schedule(call: Call[UpdateScheduleRequest, Nothing]) -> ScheduleDetails:
    """Change what is given, if nobody has changed it since ``version``."""
    body = call.body
    changed = await call.services.schedules.update(
        call.uuid("schedule"), body.asked(), version=body.version
    )
    return schedule_details(changed)


@blueprint.delete("/schedules/<schedule_id>")
@operation("Remove a schedule", shapes.Status, role=Role.ADMIN, errors=(404,))
async def remove_schedule(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Remove a schedule with its history; tasks that it enqueued stay."""
    await call.services.schedules.remove(call.uuid("schedule"))
    return shapes.Status()


@blueprint.get("/schedules/<schedule_id>/slots")
@operation(
    "List a schedule's slots", SlotsResponse, role=Role.ADMIN, query=PageQuery, errors=(404,)
)
async def list_slots(call: Call[Nothing, PageQuery]) -> SlotsResponse:
    """Return the latest slots with what became of them."""
    query = call.query
    records = await call.services.schedules.slots(
        call.uuid("schedule"), limit=query.limit, offset=query.offset
    )
    return SlotsResponse(
        slots=[full_slot(each) for each in records], limit=query.limit, offset=query.offset
    )


@blueprint.post("/schedules/<schedule_id>/pause")
@operation("Pause a schedule", ScheduleDetails, role=Role.ADMIN, errors=(404,))
async def pause_schedule(call: Call[Nothing, Nothing]) -> ScheduleDetails:
    """Let none of its slots run from now on."""
    return schedule_details(await call.services.schedules.pause(call.uuid("schedule")))


@blueprint.post("/schedules/<schedule_id>/resume")
@operation("Resume a schedule", ScheduleDetails, role=Role.ADMIN, errors=(400, 404))
async def resume_schedule(call: Call[Nothing, Nothing]) -> ScheduleDetails:
    """Go on with the first slot after now."""
    return schedule_details(await call.services.schedules.resume(call.uuid("schedule")))


@blueprint.post("/schedules/<schedule_id>/run")
@operation(
    "Run a schedule's task now",
    RunAcceptedResponse,
    role=Role.ADMIN,
    status=202,
    errors=(404, 409),
)
async def run_schedule(call: Call[Nothing, Nothing]) -> RunAcceptedResponse:
    """Enqueue its task at once; a task of the same key that waits already is answered instead."""
    schedule_id = call.uuid("schedule")
    task_id = await call.services.schedules.run_now(schedule_id)
    return RunAcceptedResponse(schedule_id=schedule_id, task_id=task_id)
