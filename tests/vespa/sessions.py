"""Deployment sessions: created, prepared, activated."""

from __future__ import annotations

import email.parser
import email.policy
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tests.vespa.changes import change_actions, check_change, drop_lost
from tests.vespa.deploy_errors import DeployProblem, bad_request, not_found
from tests.vespa.messages import Request
from tests.vespa.model import Application
from tests.vespa.package import PackageError, build_application, read_archive
from tests.vespa.reindexing import Reindexing
from tests.vespa.state import State

_TEXT_MAX = 1_000_000


@dataclass(slots=True)
class Session:
    """A session; *application* is None until it is prepared."""

    id: int
    files: dict[str, bytes]
    base_generation: int
    """The generation that was active when the session was created."""
    application: Application | None = None


class Sessions:
    """The sessions of a config server; the active generation is the id of the session that was activated."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sessions: dict[int, Session] = {}
        self._last_id = 1
        self.generation_before = 0
        self.reindexing = Reindexing()

    @property
    def generation(self) -> int:
        """The active generation; 0 without an application."""
        return self._state.deployed.generation if self._state.deployed else 0

    def create(self, request: Request) -> Session:
        """Create a session of the package in the body, or of the active application with ``from``.

        Raises:
            DeployProblem: the body is no package.
        """
        if "from" in request.properties():
            if self._state.deployed is None:
                raise not_found("Unknown application id 'default.default.default'")
            files = dict(self._state.deployed.files)
        else:
            files = _package(request)
        session = Session(self.new_id(), files, self.generation)
        self._sessions[session.id] = session
        return session

    def new_id(self) -> int:
        """The id of the next session."""
        self._last_id += 1
        return self._last_id

    def get(self, session_id: str) -> Session:
        """A session.

        Raises:
            DeployProblem: there is none with this id.
        """
        session = self._sessions.get(int(session_id)) if session_id.isdigit() else None
        if session is None:
            raise not_found(f"Local session {session_id} for 'default' was not found")
        return session

    def prepare(self, session: Session) -> dict[str, list[Any]]:
        """Check the package, and give the ``configChangeActions``.

        Raises:
            DeployProblem: it is refused.
        """
        today = datetime.now(UTC).date()
        try:
            application = build_application(
                session.files,
                session_id=session.id,
                today=today,
                max_days=self._state.limits.override_days,
            )
            check_change(self._state.deployed, application, today)
        except PackageError as error:
            raise DeployProblem(400, error.code, str(error)) from error
        session.application = application
        return change_actions(self._state.deployed, application)

    def activate(self, session: Session) -> None:
        """Make the session's application the active one.

        Raises:
            DeployProblem: it is not prepared, or another one was activated meanwhile.
        """
        if session.application is None:
            raise bad_request(f"Session {session.id} for tenant 'default' is not prepared")
        if session.id == self.generation:
            raise bad_request(f"Session {session.id} is already active")
        if session.base_generation != self.generation:
            raise DeployProblem(
                409,
                "ACTIVATION_CONFLICT",
                f"default.default.default Cannot activate session {session.id} because the currently "
                f"active session ({self.generation}) has changed since session {session.id} was created "
                f"(was {session.base_generation} at creation time)",
            )
        application = replace(session.application, generation=session.id)
        slow = self._state.faults.take({"slow-convergence"}, "PUT", "")
        drop_lost(self._state.store, self._state.deployed, application)
        self.generation_before = self.generation
        self._state.activate(application, delay=slow.delay if slow else 0.0)
        self.reindexing.deployed()

    def delete_application(self) -> None:
        """Delete the application and its documents.

        Raises:
            DeployProblem: there is none.
        """
        if self._state.deployed is None:
            raise not_found("Unknown application id 'default.default.default'")
        self._state.activate(None)
        self._state.store.clear()
        self.generation_before = 0


def _package(request: Request) -> dict[str, bytes]:
    content_type = request.headers.get("content-type", "")
    body = request.body
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        content_type, body = _multipart(content_type, body)
    elif not content_type:
        raise bad_request("Request contained no Content-Type header")
    try:
        return read_archive(body, content_type)
    except PackageError as error:
        raise DeployProblem(400, error.code, str(error)) from error


def _multipart(content_type: str, body: bytes) -> tuple[str, bytes]:
    """The type and the bytes of the part ``applicationPackage``."""
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts: dict[str, Any] = {}
    for part in message.iter_parts():  # type: ignore[attr-defined]
        parts[str(part.get_param("name", header="content-disposition"))] = part
    package = parts.get("applicationPackage")
    if package is None:
        raise bad_request("Request has no part 'applicationPackage'")
    if "prepareParams" in parts:
        try:
            json.loads(parts["prepareParams"].get_payload(decode=True)[:_TEXT_MAX])
        except ValueError as error:
            raise bad_request(f"Error parsing prepareParams: {error}") from error
    return package.get_content_type(), package.get_payload(decode=True)
