"""How a running Sercha is doing: `status`, `healthcheck`, and `version`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, cast

import typer

from sercha.cli.api import Api, open_api
from sercha.cli.exits import Status, run_async
from sercha.cli.healthcheck import healthcheck
from sercha.cli.show import print_json, safe
from sercha.cli.sync import list_sources
from sercha.errors import Forbidden, Unauthenticated, Unavailable
from sercha.version import __version__

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (status, healthcheck, version):
        app.command()(command)


def status(as_json: Json = False) -> None:
    """Show health, sources, tasks and processes; exit status 1 when it cannot answer."""
    run_async(partial(_status, as_json=as_json))


def version(as_json: Json = False) -> None:
    """Print the version of this program."""
    if as_json:
        print_json({"version": __version__})
    else:
        print(f"sercha {__version__}")


async def _status(*, as_json: bool) -> int:
    async with open_api() as api:
        answer = await _collect(api)
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    return Status.FAILED if answer["health"].get("status") == "unhealthy" else Status.DONE


async def _collect(api: Api) -> dict[str, Any]:
    """Gather what the caller may see; a part that is closed to them, or away, is None."""
    _, health = await api.raw("/health")
    _, ready = await api.raw("/ready")
    _, server = await api.raw("/version")
    answer: dict[str, Any] = {
        "url": api.url,
        "version": server.get("version"),
        "health": health,
        "ready": ready.get("status"),
    }
    for name, path in (("stats", "/admin/stats"), ("tasks", "/tasks"), ("nodes", "/nodes")):
        answer[name] = await _allowed(api, path)
    try:
        answer["sources"] = await list_sources(api)
    except (Forbidden, Unauthenticated, Unavailable):
        answer["sources"] = None
    return answer


async def _allowed(api: Api, path: str) -> Any:
    try:
        return await api.get(path)
    except (Forbidden, Unauthenticated, Unavailable):
        return None


def _print(answer: dict[str, Any]) -> None:
    health = answer["health"]
    print(
        f"{answer['url']}: {safe(health.get('status'))}, {safe(answer['ready'])}, version {safe(answer['version'])}"
    )
    for name, component in health.get("components", {}).items():
        message = component.get("message")
        print(
            f"  {safe(name)}: {safe(component['status'])}"
            + (f" ({safe(message)})" if message else "")
        )
    if stats := answer["stats"]:
        print(
            f"{stats['documents']['total']} documents in {stats['sources']['total']} sources, "
            f"{stats['chunks']['total']} chunks, {stats['users']['total']} users"
        )
    sources = cast("list[dict[str, Any]]", answer["sources"] or [])
    for source in sources:
        state = source["sync_status"] if source["enabled"] else "paused"
        print(f"  {safe(source['name'])}: {source['document_count']} documents, {state}")
    if tasks := answer["tasks"]:
        print(
            "tasks: "
            + (", ".join(f"{count} {state}" for state, count in tasks["counts"].items()) or "none")
        )
    nodes = cast("dict[str, list[dict[str, Any]]]", answer["nodes"] or {})
    for node in nodes.get("nodes", []):
        _print_node(node)
    if answer["stats"] is None and answer["sources"] is None:
        print("log in with `sercha login` to see more")


def _print_node(node: dict[str, Any]) -> None:
    print(
        f"  {safe(node['role'])} on {safe(node['host'])}, pid {node['pid']}, version {safe(node['version'])}, "
        + ("alive" if node["is_alive"] else "dead")
        + f", seen {node['seen_at']}"
    )
    for task in cast("list[dict[str, Any]]", node["running"]):
        about = f" of {safe(task['source_name'])}" if task.get("source_name") else ""
        done, expected = task.get("items_done"), task.get("items_expected")
        items = "" if done is None else f", {done}" + (f" of {expected}" if expected else "")
        print(
            f"    {safe(task['kind'])}{about}, since {task['claimed_at']}{items + ' items' if items else ''}"
            f" (task {task['task_id']})"
        )
