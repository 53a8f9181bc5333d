"""``serviceconverge``: which services run which generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.vespa.model import Application
from tests.vespa.state import State

_CONTENT_SERVICES = (("searchnode", 19107), ("storagenode", 19108), ("distributor", 19112))


@dataclass(frozen=True, slots=True)
class Service:
    """A service with the port of its state API."""

    cluster: str
    host: str
    port: int
    type: str


def services_of(application: Application, container_ports: list[int]) -> list[Service]:
    """The services of an application; containers have the ports of the stand-in, as far as there are."""
    found: list[Service] = []
    for cluster in application.containers:
        for host in cluster.hosts:
            index = sum(each.type == "container" for each in found)
            port = container_ports[index] if index < len(container_ports) else 8080 + index
            found.append(Service(cluster.id, host, port, "container"))
    for cluster in application.content:
        for node in cluster.nodes:
            for name, port in _CONTENT_SERVICES:
                at = port + 10 * node.distribution_key
                found.append(Service(cluster.id, node.host, at, name))
    return found


def convergence(state: State, application: Application, url: str, before: int) -> dict[str, Any]:
    """The answer for all services; *before* is the generation before the wanted one."""
    wanted = application.generation
    current = wanted if state.is_converged else before
    failed = state.faults.find("failed-service")
    services: list[dict[str, Any]] = []
    content: dict[str, Any] = {"services": services, "url": url}
    for at, each in enumerate(services_of(application, state.container_ports)):
        entry: dict[str, Any] = {
            "clusterName": each.cluster,
            "host": each.host,
            "port": each.port,
            "type": each.type,
            "url": f"{url}/{each.host}:{each.port}",
            "currentGeneration": current,
        }
        if failed is not None and at == failed.size:
            message = failed.message or "Failed to take the new generation"
            entry["currentGeneration"] = before
            entry["config"] = {"status": "failed", "message": message}
            content["config"] = {
                "status": "failed",
                "clusterName": each.cluster,
                "host": each.host,
                "type": each.type,
                "message": message,
            }
        services.append(entry)
    lowest = min((each["currentGeneration"] for each in services), default=current)
    content["currentGeneration"] = lowest
    content["wantedGeneration"] = wanted
    content["converged"] = lowest >= wanted
    return content


def service_convergence(
    state: State, application: Application, url: str, before: int, name: str
) -> dict[str, Any]:
    """The answer for one service, ``host:port``."""
    everything = convergence(state, application, url, before)
    found = [each for each in everything["services"] if f"{each['host']}:{each['port']}" == name]
    content: dict[str, Any] = {
        "url": f"{url}/{name}",
        "host": name,
        "wantedGeneration": application.generation,
    }
    if not found:
        content["problem"] = (
            "Host:port (service) no longer part of application, refetch list of services."
        )
        return content
    current = found[0]["currentGeneration"]
    content["converged"] = current >= application.generation
    content["currentGeneration"] = current
    return content
