"""The files of a package over HTTP: listings, bytes, and the editing of a package that is not prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from tests.vespa.deploy_errors import DeployProblem
from tests.vespa.messages import Request, json_answer
from tests.vespa.model import Answer

_TYPES = {".json": "application/json", ".xml": "application/xml", ".html": "text/html"}


def answer_content(base: str, files: Mapping[str, bytes], path: str, request: Request) -> Answer:
    """Answer a GET of a file or a folder; *base* is the URL of the root folder, *path* the rest, raw.

    Raises:
        DeployProblem: there is no such file or folder.
    """
    properties = request.properties()
    name = unquote(path)
    is_status = properties.choice("return", "content", ("content", "status")) == "status"
    if name in files:
        if is_status:
            return json_answer(200, _status(base, name, files))
        suffix = name[name.rfind(".") :] if "." in name else ""
        content_type = _TYPES.get(suffix, "application/octet-stream")
        return Answer(200, (("content-type", content_type),), files[name])
    folder = name if not name or name.endswith("/") else name + "/"
    if folder and not any(each.startswith(folder) for each in files):
        raise DeployProblem(404, "NOT_FOUND", f"File or directory '{base}{path}' is not found")
    entries = _entries(files, folder, is_recursive=properties.flag("recursive"))
    if is_status:
        return json_answer(200, [_status(base, each, files) for each in entries])
    return json_answer(200, [base + quote(each) for each in entries])


def _entries(files: Mapping[str, bytes], folder: str, *, is_recursive: bool) -> list[str]:
    """The names in a folder; those of folders end in a slash."""
    found: set[str] = set()
    for name in files:
        if not name.startswith(folder):
            continue
        parts = name[len(folder) :].split("/")
        for depth in range(1, len(parts) + 1 if is_recursive else 2):
            end = "" if depth == len(parts) else "/"
            found.add(folder + "/".join(parts[:depth]) + end)
    return sorted(found)


def _status(base: str, name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    content = files.get(name)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest() if content is not None else ""
    return {"name": base + quote(name), "status": "new", "md5": digest}


def put_file(files: dict[str, bytes], path: str, body: bytes) -> None:
    """Write a file of a package; a path that ends in a slash makes a folder, which is not kept empty.

    Raises:
        DeployProblem: the path leads outside, or is a folder with content.
    """
    name = unquote(path)
    parts = name.strip("/").split("/")
    if not name or any(part in ("", ".", "..") for part in parts):
        raise DeployProblem(400, "BAD_REQUEST", f"Illegal path '{name}'")
    if name.endswith("/"):
        if body:
            raise DeployProblem(400, "BAD_REQUEST", "A folder has no content")
        return
    files[name] = body


def delete_file(files: dict[str, bytes], path: str) -> None:
    """Delete a file of a package.

    Raises:
        DeployProblem: it does not exist, or is a folder with files.
    """
    name = unquote(path)
    if name in files:
        del files[name]
        return
    folder = name.rstrip("/") + "/"
    if any(each.startswith(folder) for each in files):
        raise DeployProblem(400, "BAD_REQUEST", f"Cannot delete '{name}': folder is not empty")
    raise DeployProblem(404, "NOT_FOUND", f"Cannot delete '{name}': it does not exist")
