"""Sends a request to the part of the stand-in that answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.vespa import query
from tests.vespa.bodies import unzip
from tests.vespa.deploy import ConfigServer
from tests.vespa.deploy_errors import error_answer
from tests.vespa.documents import answer_document, is_document_path
from tests.vespa.health import answer_health
from tests.vespa.messages import Problem, Request, Streamed, json_answer
from tests.vespa.model import Answer, Application, ContainerCluster, SearchRequest
from tests.vespa.state import State

AnswerTo = Callable[[Request], Answer | Streamed]
DEPLOY_PREFIX = "/application/v2/"


def config_server(state: State, config: ConfigServer) -> AnswerTo:
    """What a port of the config server answers."""

    def answer(request: Request) -> Answer | Streamed:
        if request.path.startswith(DEPLOY_PREFIX):
            return config.answer(request)
        found = answer_health(state, request)
        if found is not None:
            return found
        return error_answer(404, "NOT_FOUND", f"Nothing at path '{request.path}'")

    return answer


def container(state: State) -> AnswerTo:
    """What a port of a container answers."""

    def answer(request: Request) -> Answer | Streamed:
        cluster = _cluster_of(state.application, request.container or 0)
        if is_document_path(request.path) and (cluster is None or cluster.has_document_api):
            return answer_document(state, request)
        if request.path in ("/search", "/search/") and (cluster is None or cluster.has_search):
            return _search(state, request)
        found = answer_health(state, request)
        if found is not None:
            return found
        text = f"No binding for URI 'http://{request.headers.get('host', '')}{request.path}'."
        return Answer(404, (("content-type", "text/plain"),), text.encode())

    return answer


def combined(state: State, config: ConfigServer) -> AnswerTo:
    """What one port answers that is both, for clients that know one address only."""
    to_container, to_config = container(state), config_server(state, config)

    def answer(request: Request) -> Answer | Streamed:
        if request.path.startswith(DEPLOY_PREFIX):
            return config.answer(request)
        if state.application is None and request.path == "/status.html":
            # Of the config server: the official client asks for it before the first deployment.
            return to_config(replace(request, container=None))
        return to_container(request)

    return answer


def _cluster_of(application: Application | None, index: int) -> ContainerCluster | None:
    """The cluster of a container; containers that are not in the application belong to the last one."""
    if application is None:
        return None
    clusters = [each for each in application.containers for _ in each.hosts]
    return clusters[min(index, len(clusters) - 1)]


def _search(state: State, request: Request) -> Answer:
    if state.application is None:
        return Answer(503, (), b"")
    body = request.body
    if request.headers.get("content-encoding") == "gzip":
        try:
            body = unzip(body)
        except Problem as problem:
            return json_answer(problem.status, {"message": problem.message})
    search = SearchRequest(
        request.method,
        request.query,
        request.headers.get("content-type", ""),
        body,
        request.headers.get("accept", ""),
    )
    return query.answer(
        search, state.application, state.store, state.faults, container=request.container
    )
