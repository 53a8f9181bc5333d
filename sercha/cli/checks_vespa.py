"""What `sercha doctor` finds by asking Vespa."""

from __future__ import annotations

from http import HTTPStatus

import httpx

from sercha.adapters.vespa.names import DOCUMENT
from sercha.cli.checks import Finding, Verdict
from sercha.settings import Settings

SECONDS = 5.0
SEARCH = "/search/"


async def check_vespa(settings: Settings) -> list[Finding]:
    """Check that each container is in rotation and knows Sercha's documents, and each config server is up."""
    if settings.search_engine != "vespa":
        return []
    async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
        findings = [await _check_container(client, url) for url in settings.vespa_container_url]
        findings += [await _check_config(client, url) for url in settings.vespa_config_url]
    return findings


async def _check_container(client: httpx.AsyncClient, url: str) -> Finding:
    try:
        status = await client.get(f"{url}/status.html")
        body = {"yql": f"select number from {DOCUMENT} where false", "hits": 0}
        search = await client.post(f"{url}{SEARCH}", json=body)
    except httpx.TransportError as error:
        mend = "check VESPA_CONTAINER_URL and that the container runs; others are asked meanwhile"
        return Finding("vespa container", Verdict.FAIL, f"{url}: {_why(error)}", mend)
    if status.status_code != HTTPStatus.OK:
        mend = "look at Vespa: it has started, and is not ready for searches"
        return Finding("vespa container", Verdict.WARN, f"{url}: out of rotation", mend)
    if search.status_code != HTTPStatus.OK:
        mend = "a worker deploys it when it begins to feed; or run `sercha vespa deploy`"
        message = f"{url}: does not know Sercha's documents"
        return Finding("vespa container", Verdict.WARN, message, mend)
    return Finding("vespa container", Verdict.OK, f"{url}: in rotation, with Sercha's documents")


async def _check_config(client: httpx.AsyncClient, url: str) -> Finding:
    mend = "check VESPA_CONFIG_URL; searches and feeding go on, only deploying does not"
    try:
        # 200 is said while it still starts, too.
        answer = (await client.get(f"{url}/state/v1/health")).json()
        state = answer["status"]["code"]
    except (httpx.TransportError, ValueError, KeyError, TypeError) as error:
        return Finding("vespa config", Verdict.WARN, f"{url}: {_why(error)}", mend)
    if state != "up":
        return Finding("vespa config", Verdict.WARN, f"{url}: {state}", mend)
    return Finding("vespa config", Verdict.OK, f"{url}: up")


def _why(error: Exception) -> str:
    if isinstance(error, httpx.TransportError):
        return str(error) or type(error).__name__
    return "not the answer of a config server"
