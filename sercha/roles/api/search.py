"""Search."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.domain.query import SearchMode, parse_query
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, OptionalInstant, OptionalText, RequestModel
from sercha.roles.api.serialising import search_result

SOURCES_MAX = 100

blueprint = Blueprint("search", __name__)

_Mode = Annotated[SearchMode | None, BeforeValidator(lambda mode: None if mode == "" else mode)]


class SearchRequest(RequestModel):
    """What to look for. Mode and limit come from the team's settings where they are not given."""

    query: str
    mode: _Mode = None
    limit: int | None = None
    offset: int = 0
    source_ids: list[UUID] | None = Field(default=None, max_length=SOURCES_MAX)
    types: list[str] | None = None
    modified_from: OptionalInstant = None
    modified_before: OptionalInstant = None
    path: OptionalText = None


class SearchParameters(RequestModel):
    """The same in an address; ``source_ids`` and ``types`` may be repeated."""

    q: str
    mode: _Mode = None
    limit: int | None = None
    offset: int = 0
    source_ids: list[UUID] | None = Field(default=None, max_length=SOURCES_MAX)
    types: list[str] | None = None
    modified_from: OptionalInstant = None
    modified_before: OptionalInstant = None
    path: OptionalText = None


@blueprint.post("/search")
@operation("Search", shapes.SearchResult, role=Role.VIEWER, body=SearchRequest, is_safe=True)
async def search(call: Call[SearchRequest, Nothing]) -> shapes.SearchResult:
    """Find documents that the caller may read."""
    return await _search(call, call.body.query, call.body)


@blueprint.get("/search")
@operation("Search by address", shapes.SearchResult, role=Role.VIEWER, query=SearchParameters)
async def search_by_address(call: Call[Nothing, SearchParameters]) -> shapes.SearchResult:
    """Find documents that the caller may read; the address may end up in logs of others, so prefer POST."""
    return await _search(call, call.query.q, call.query)


async def _search(
    call: Call[SearchRequest, Nothing] | Call[Nothing, SearchParameters],
    text: str,
    given: SearchRequest | SearchParameters,
) -> shapes.SearchResult:
    mode, limit = given.mode, given.limit
    if mode is None or limit is None:
        settings = await call.services.accounts.settings()
        mode = mode or SearchMode(settings.default_search_mode)
        limit = settings.results_per_page if limit is None else limit
    query = parse_query(
        text,
        mode=mode,
        source_ids=tuple(dict.fromkeys(given.source_ids or ())),
        limit=limit,
        offset=given.offset,
        mime_types=given.types or (),
        modified_from=given.modified_from,
        modified_before=given.modified_before,
        path=given.path or "",
    )
    return search_result(await call.services.search.search(query, call.user.principals))
