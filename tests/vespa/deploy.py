"""The config server: section 1 of the interface. Only the application ``default`` of the tenant ``default``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.vespa.content_files import answer_content, delete_file, put_file
from tests.vespa.convergence import convergence, service_convergence
from tests.vespa.deploy_errors import DeployProblem, bad_request, not_found, not_supported
from tests.vespa.messages import Problem, Request, json_answer
from tests.vespa.model import Answer, Application
from tests.vespa.package import PackageError
from tests.vespa.sessions import Session, Sessions
from tests.vespa.state import VERSION, State

TENANT = "/application/v2/tenant/default"
INSTANCE = f"{TENANT}/application/default/environment/prod/region/default/instance/default"


class ConfigServer:
    """Answers requests to the deployment API."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.sessions = Sessions(state)

    def answer(self, request: Request) -> Answer:
        """Answer a request below ``/application/v2``."""
        try:
            return self._route(request)
        except DeployProblem as problem:
            return problem.answer()
        except Problem as problem:
            return DeployProblem(problem.status, "BAD_REQUEST", problem.message or "").answer()
        except PackageError as error:
            return DeployProblem(400, error.code, str(error)).answer()

    def _route(self, request: Request) -> Answer:
        properties = request.properties()
        for name in ("applicationName", "instance"):
            if properties.text(name) not in (None, "default"):
                raise bad_request(f"Only '{name}' default is supported")
        properties.seconds("timeout", 0.0)
        properties.flag("debug")
        match request.path.removeprefix("/application/v2/").split("/"):
            case ["tenant", "default", "prepareandactivate"]:
                return self._deploy(request)
            case ["tenant", "default", "prepareandactivate", session_id]:
                return self._activate_again(request, session_id)
            case ["tenant", "default", "session"]:
                return self._create(request)
            case ["tenant", "default", "session", session_id, "prepared"]:
                return self._prepare(request, session_id)
            case ["tenant", "default", "session", session_id, "active"]:
                return self._activate(request, session_id)
            case ["tenant", "default", "session", session_id, "content", *rest]:
                return self._content(request, session_id, "/".join(rest))
            case ["tenant", "default", "application", *rest]:
                return self._application(request, rest)
            case ["tenant", tenant, *_] if tenant != "default":
                raise not_found(f"Tenant '{tenant}' was not found.")
            case _:
                raise not_found(f"Nothing at path '{request.path}'")

    def _deploy(self, request: Request) -> Answer:
        _only(request, "POST")
        session = self.sessions.create(request)
        actions = self.sessions.prepare(session)
        fault = self._state.faults.take({"not-activated"}, request.method, request.path)
        if fault is None:
            self.sessions.activate(session)
            message = f"Session {session.id} for tenant 'default' prepared and activated."
        else:
            reason = fault.message or "Timed out waiting for lock"
            message = f"Session {session.id} for tenant 'default' prepared, but activation failed: {reason}"
        return json_answer(
            200,
            {
                "log": _log(session),
                "message": message,
                "session-id": str(session.id),
                "activated": fault is None,
                "tenant": "default",
                "url": _base(request) + INSTANCE,
                "configChangeActions": actions,
            },
        )

    def _activate_again(self, request: Request, session_id: str) -> Answer:
        _only(request, "PUT")
        session = self.sessions.get(session_id)
        if session.id != self.sessions.generation:
            self.sessions.activate(session)
        return json_answer(
            200, {"message": f"Session {session.id} for default.default.default activated"}
        )

    def _create(self, request: Request) -> Answer:
        _only(request, "POST")
        session = self.sessions.create(request)
        url = f"{_base(request)}{TENANT}/session/{session.id}"
        return json_answer(
            200,
            {
                "log": [],
                "tenant": "default",
                "session-id": str(session.id),
                "prepared": f"{url}/prepared",
                "content": f"{url}/content/",
                "message": f"Session {session.id} for tenant 'default' created.",
            },
        )

    def _prepare(self, request: Request, session_id: str) -> Answer:
        _only(request, "PUT", "GET")
        session = self.sessions.get(session_id)
        actions: dict[str, list[Any]] = {"restart": [], "refeed": [], "reindex": []}
        if request.method == "PUT":
            actions = self.sessions.prepare(session)
        elif session.application is None:
            raise bad_request(f"Session {session.id} for tenant 'default' is not prepared")
        return json_answer(
            200,
            {
                "log": _log(session),
                "tenant": "default",
                "session-id": str(session.id),
                "activate": f"{_base(request)}{TENANT}/session/{session.id}/active",
                "message": f"Session {session.id} for tenant 'default' prepared.",
                "configChangeActions": actions,
            },
        )

    def _activate(self, request: Request, session_id: str) -> Answer:
        _only(request, "PUT")
        session = self.sessions.get(session_id)
        self.sessions.activate(session)
        return json_answer(
            200,
            {
                "tenant": "default",
                "session-id": str(session.id),
                "message": f"Session {session.id} for tenant 'default' activated.",
                "url": _base(request) + INSTANCE,
            },
        )

    def _content(self, request: Request, session_id: str, path: str) -> Answer:
        _only(request, "GET", "PUT", "DELETE")
        session = self.sessions.get(session_id)
        url = f"{_base(request)}{TENANT}/session/{session.id}"
        if request.method == "GET":
            return answer_content(f"{url}/content/", session.files, path, request)
        if session.application is not None:
            raise bad_request(f"Session {session.id} is prepared, its content is fixed")
        if request.method == "PUT":
            put_file(session.files, path, request.body)
        else:
            delete_file(session.files, path)
        return json_answer(200, {"prepared": f"{url}/prepared"})

    def _active(self) -> Application:
        application = self._state.deployed
        if application is None:
            raise not_found("Unknown application id 'default.default.default'")
        return application

    def _application(self, request: Request, rest: list[str]) -> Answer:
        match rest:
            case [] | [""]:
                _only(request, "GET")
                urls = [_base(request) + INSTANCE] if self._state.deployed else []
                return json_answer(200, urls)
            case ["default"] | ["default", ""]:
                return self._whole(request)
            case ["default", "environment", _, "region", _, "instance", "default", *tail]:
                return self._instance(request, tail)
            case _:
                raise not_found(f"Nothing at path '{request.path}'")

    def _whole(self, request: Request) -> Answer:
        _only(request, "GET", "DELETE")
        if request.method == "DELETE":
            self.sessions.delete_application()
            return json_answer(200, {"message": "Application 'default.default.default' deleted"})
        application = self._active()
        return json_answer(
            200,
            {
                "generation": application.generation,
                "applicationPackageFileReference": f"{application.generation:016x}",
                "modelVersions": [VERSION],
            },
        )

    def _instance(self, request: Request, tail: list[str]) -> Answer:
        handlers: dict[str, Callable[[Request, Application], Answer]] = {
            "restart": self._restart,
            "reindex": self._reindex,
            "reindexing": self._reindexing,
        }
        match tail:
            case [] | [""]:
                return self._whole(request)
            case ["content", *rest]:
                _only(request, "GET")
                base = f"{_base(request)}{INSTANCE}/content/"
                return answer_content(base, self._active().files, "/".join(rest), request)
            case ["serviceconverge", *rest] if len(rest) < 2:
                _only(request, "GET")
                url = f"{_base(request)}{INSTANCE}/serviceconverge"
                before = self.sessions.generation_before
                if not rest or not rest[0]:
                    return json_answer(200, convergence(self._state, self._active(), url, before))
                return json_answer(
                    200, service_convergence(self._state, self._active(), url, before, rest[0])
                )
            case [name] if name in handlers:
                return handlers[name](request, self._active())
            case _:
                raise not_found(f"Nothing at path '{request.path}'")

    def _restart(self, request: Request, _: Application) -> Answer:
        _only(request, "POST")
        return json_answer(200, {"message": "Success"})

    def _reindex(self, request: Request, application: Application) -> Answer:
        _only(request, "POST", "PUT")
        reindexing = self.sessions.reindexing
        if request.method == "PUT":
            return json_answer(200, {"message": reindexing.set_speed(request.properties())})
        return json_answer(200, {"message": reindexing.ask(application, request.properties())})

    def _reindexing(self, request: Request, application: Application) -> Answer:
        _only(request, "GET", "POST", "DELETE")
        reindexing = self.sessions.reindexing
        if request.method == "GET":
            return json_answer(200, reindexing.status(application))
        reindexing.is_enabled = request.method == "POST"
        word = "enabled" if reindexing.is_enabled else "disabled"
        return json_answer(200, {"message": f"Reindexing {word}"})


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise not_supported(request.method)


def _base(request: Request) -> str:
    return f"http://{request.headers.get('host', 'localhost')}"


def _log(session: Session) -> list[dict[str, Any]]:
    """Warnings about the package."""
    if "hosts.xml" in session.files:
        return []
    return [
        {
            "time": int(time.time() * 1000),
            "level": "WARNING",
            "message": "No hosts.xml in the application package: all services run on localhost",
        }
    ]
