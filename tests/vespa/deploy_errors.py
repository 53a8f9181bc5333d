"""Errors of the config server."""

from __future__ import annotations

from tests.vespa.messages import json_answer
from tests.vespa.model import Answer


class DeployProblem(Exception):
    """A request to the config server is answered by an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def answer(self) -> Answer:
        """The answer."""
        return error_answer(self.status, self.code, self.message)


def error_answer(status: int, code: str, message: str) -> Answer:
    """An error as the config server tells it."""
    return json_answer(status, {"error-code": code, "message": message})


def not_found(message: str) -> DeployProblem:
    """A 404."""
    return DeployProblem(404, "NOT_FOUND", message)


def bad_request(message: str) -> DeployProblem:
    """A 400."""
    return DeployProblem(400, "BAD_REQUEST", message)


def not_supported(method: str) -> DeployProblem:
    """A 405."""
    return DeployProblem(405, "METHOD_NOT_ALLOWED", f"Method '{method}' is not supported")
