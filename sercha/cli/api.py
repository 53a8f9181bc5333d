"""The HTTP API as client commands see it: addresses, tokens, and answers turned into our errors."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import trio

from sercha.cli.profile import Profile, load_profile, lock_profile, profile_path, save_profile
from sercha.cli.proxies import proxy_variable, proxy_variables
from sercha.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    SerchaError,
    SettingsError,
    Transient,
    Unauthenticated,
    Unavailable,
)
from sercha.settings import Role, load_settings
from sercha.version import __version__

REQUEST_TIMEOUT = 65.0
"""Seconds for one answer; the server gives up earlier."""
CONNECT_TIMEOUT = 5.0
RETRIES_MAX = 3
RETRY_AFTER_MAX = 5.0
PAGE_MAX = 100
"""Entries that the API gives at once of a list."""

_BY_STATUS: Mapping[int, type[SerchaError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}


@dataclass(frozen=True, slots=True)
class Access:
    """Where to go and with which right."""

    url: str
    token: str = ""
    """From ``SERCHA_TOKEN``: used as it is, never refreshed."""
    profile_path: Path | None = None
    """Holds the tokens when ``token`` is empty."""


def find_access(environ: Mapping[str, str]) -> Access:
    """Choose address and log-in: the variables first, then the profile.

    The profile's tokens only ever go to the profile's address.

    Raises:
        SettingsError: a variable has a wrong value.
        Rejected: nothing says where Sercha is.
    """
    settings = load_settings(environ, role=Role.CLIENT)
    path = profile_path(environ)
    if settings.sercha_url and settings.sercha_token:
        return Access(settings.sercha_url, settings.sercha_token)
    profile = load_profile(path)
    url = settings.sercha_url or (profile.url if profile else None)
    if url is None:
        raise Rejected(
            "no Sercha is known: start one with `sercha up`, log in with `sercha login --url URL`, "
            "or set SERCHA_URL",
            code="no-profile",
        )
    if settings.sercha_token:
        return Access(url, settings.sercha_token)
    return Access(url, profile_path=path)


class Api:
    """One Sercha over HTTP; made by `open_api`."""

    def __init__(self, client: httpx.AsyncClient, access: Access) -> None:
        self._client = client
        self._access = access
        self.url = access.url

    async def get(self, path: str, **params: object) -> Any:
        """Read; tried again a few times when the server says that it will be back."""
        given = {name: str(value) for name, value in params.items() if value is not None}
        for _ in range(RETRIES_MAX):
            try:
                return await self._request("GET", path, params=given)
            except Transient as error:
                if error.retry_after is None:
                    raise
                await trio.sleep(min(error.retry_after, RETRY_AFTER_MAX))
        return await self._request("GET", path, params=given)

    async def get_once(self, path: str, **params: object) -> Any:
        """Read; the caller knows what to do when the server will be back later."""
        given = {name: str(value) for name, value in params.items() if value is not None}
        return await self._request("GET", path, params=given)

    async def post(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        patience: float = REQUEST_TIMEOUT,
    ) -> Any:
        """Do something once, waiting up to *patience* seconds; never tried again by itself."""
        options: dict[str, Any] = {} if body is None else {"json": body}
        limits = httpx.Timeout(patience, connect=CONNECT_TIMEOUT)
        return await self._request("POST", path, timeout=limits, **options)

    async def put(self, path: str, body: Mapping[str, object]) -> Any:
        """Replace something."""
        return await self._request("PUT", path, json=body)

    async def delete(self, path: str) -> Any:
        """Remove something."""
        return await self._request("DELETE", path)

    async def read_lines(
        self,
        path: str,
        take: Callable[[str], None],
        *,
        headers: Mapping[str, str],
        silence: float,
    ) -> None:
        """Give the lines of an answer to *take* as they come, until the server ends it.

        Raises:
            Unavailable: the server is away, or was silent for *silence* seconds.
        """
        address = f"{self.url}/api/v1{path}"
        limits = httpx.Timeout(silence, connect=CONNECT_TIMEOUT)
        for is_last in (False, True):
            token = self._token()
            given = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
            with self._answering():
                async with self._client.stream(
                    "GET", address, headers=given, timeout=limits
                ) as response:
                    if response.status_code == 200:
                        async for line in response.aiter_lines():
                            take(line)
                        return
                    await response.aread()
            if response.status_code != 401 or is_last or not (token and self._access.profile_path):
                break
            await self._refresh(token)
        if response.status_code == 401:
            raise Unauthenticated(_log_in(self.url, has_token=bool(token)), code="not-logged-in")
        raise _error(response, _content(response, self.url))

    async def raw(self, path: str) -> tuple[int, Any]:
        """Read one of the open pages at the root, whatever its status."""
        response = await self._send("GET", f"{self.url}{path}")
        return response.status_code, _content(response, self.url)

    async def _request(self, method: str, path: str, **options: Any) -> Any:
        address = f"{self.url}/api/v1{path}"
        token = self._token()
        response = await self._send(method, address, token=token, **options)
        if response.status_code == 401 and token and self._access.profile_path:
            token = await self._refresh(token)
            response = await self._send(method, address, token=token, **options)
        if response.status_code == 401 and not path.startswith("/auth/"):
            raise Unauthenticated(_log_in(self.url, has_token=bool(token)), code="not-logged-in")
        content = _content(response, self.url)
        if response.status_code >= 400:
            raise _error(response, content)
        return content

    async def _send(
        self, method: str, address: str, *, token: str = "", **options: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with self._answering():
            return await self._client.request(method, address, headers=headers, **options)

    @contextmanager
    def _answering(self) -> Generator[None]:
        """Turn the client's errors into ours."""
        try:
            yield
        except httpx.TimeoutException:
            raise Unavailable(f"{self.url} did not answer in time", code="no-answer") from None
        except httpx.ConnectError:
            raise Unavailable(_unreached(self.url), code="no-answer") from None
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(
                f"{self.url}: the connection broke: {reason}", code="no-answer"
            ) from None

    def _token(self) -> str:
        path = self._access.profile_path
        if path is None:
            return self._access.token
        profile = load_profile(path)
        return profile.token if profile and profile.url == self.url else ""

    async def _refresh(self, stale: str) -> str:
        """Trade the refresh token for new tokens, unless another command has just done so."""
        path = self._access.profile_path
        assert path is not None
        async with lock_profile(path):
            profile = load_profile(path)
            if profile is None or profile.url != self.url:
                return ""
            if profile.token != stale:
                return profile.token
            response = await self._send(
                "POST",
                f"{self.url}/api/v1/auth/refresh",
                json={"refresh_token": profile.refresh_token},
            )
            if response.status_code in {400, 401, 403}:
                raise Unauthenticated(_log_in(self.url, has_token=True), code="not-logged-in")
            content = _content(response, self.url)
            if response.status_code >= 400:
                raise _error(response, content)
            # The old refresh token is used up: the new one must be kept whatever happens to us.
            renewed = with_tokens(profile, content)
            save_profile(path, renewed)
            return renewed.token


@asynccontextmanager
async def open_api(access: Access | None = None) -> AsyncGenerator[Api]:
    """Connect to the Sercha that *access* names, by default the one of variables and profile."""
    access = access or find_access(os.environ)
    async with _open_client(access.url) as client:
        yield Api(client, access)


def _open_client(url: str) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(REQUEST_TIMEOUT, connect=CONNECT_TIMEOUT),
            # A proxy of the environment cannot know what our own loopback is.
            trust_env=not is_loopback(url),
            # Reading the certificates takes longer than most commands wait: not where nothing can need them.
            verify=not (is_loopback(url) and url.startswith("http://")),
            headers={"User-Agent": f"sercha/{__version__}"},
        )
    except (ImportError, ValueError, httpx.InvalidURL):
        names = ", ".join(proxy_variables(os.environ))
        raise SettingsError(
            f"{names}: names a proxy that cannot be used; unset it, or give one that begins with"
            " http:// or https://"
        ) from None


def with_tokens(profile: Profile, answer: Mapping[str, Any]) -> Profile:
    """Return the profile with the tokens of a log-in's answer."""
    return replace(profile, token=str(answer["token"]), refresh_token=str(answer["refresh_token"]))


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine for sure."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _content(response: httpx.Response, url: str) -> Any:
    try:
        return response.json() if response.content else {}
    except ValueError:
        raise Unavailable(
            f"{url} answered {response.status_code} with something that is not Sercha's",
            code="not-sercha",
        ) from None


def _error(response: httpx.Response, content: Any) -> SerchaError:
    answer = cast("dict[str, Any]", content if isinstance(content, dict) else {})
    message = str(answer.get("error") or f"the server answered {response.status_code}")
    given = str(answer.get("code") or "") or None
    if response.status_code in {429, 502, 503, 504}:
        retry_after = response.headers.get("Retry-After", "")
        return Transient(
            message, code=given, retry_after=float(retry_after) if retry_after.isdecimal() else None
        )
    if response.status_code >= 500:
        request_id = response.headers.get("X-Request-Id", "")
        return SerchaError(message + (f" (request {request_id})" if request_id else ""), code=given)
    return _BY_STATUS.get(response.status_code, Rejected)(message, code=given)


def _unreached(url: str) -> str:
    variable = None if is_loopback(url) else proxy_variable(url, os.environ)
    if variable is None:
        return f"nothing answers at {url}: is `sercha up` running?"
    return (
        f"{url} cannot be reached through the proxy that {variable} names;"
        " name the host in NO_PROXY to ask it directly"
    )


def _log_in(url: str, *, has_token: bool) -> str:
    reason = "the log-in is not valid any more" if has_token else "nobody is logged in"
    return f"{url}: {reason}: use `sercha login` or set SERCHA_TOKEN"
