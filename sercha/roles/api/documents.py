"""Documents, with their text in chunks."""

from __future__ import annotations

from quart import Blueprint

from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing
from sercha.roles.api.serialising import document_with_chunks

blueprint = Blueprint("documents", __name__)


@blueprint.get("/documents/<document_id>")
@operation("Show a document", shapes.DocumentWithChunks, role=Role.VIEWER, errors=(404,))
async def show_document(call: Call[Nothing, Nothing]) -> shapes.DocumentWithChunks:
    """Return a document with all its chunks."""
    return await _with_chunks(call)


@blueprint.get("/documents/<document_id>/chunks")
@operation("Show a document's chunks", shapes.DocumentWithChunks, role=Role.VIEWER, errors=(404,))
async def show_chunks(call: Call[Nothing, Nothing]) -> shapes.DocumentWithChunks:
    """Return the same: clients know both addresses."""
    return await _with_chunks(call)


async def _with_chunks(call: Call[Nothing, Nothing]) -> shapes.DocumentWithChunks:
    document, chunks = await call.services.documents.chunks(
        call.document_id(), call.user.principals
    )
    return document_with_chunks(document, chunks)
