"""`sercha vespa`: Sercha's part of Vespa's application."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sercha.cli.exits import run_async
from sercha.cli.run import start
from sercha.cli.show import print_json, safe
from sercha.errors import Rejected, WrongUsage
from sercha.settings import Role, Settings

app = typer.Typer(help="What Sercha needs of Vespa.", no_args_is_help=True, rich_markup_mode=None)

ROLES = {"config": "is_config", "container": "is_container", "content": "is_content"}


@app.command()
def package(
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if it is not there.")],
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="HOST=ROLES",
            help="A host of Vespa with what runs there, such as vespa-1=config,container,content; "
            "may be given several times. None: everything on one host.",
        ),
    ] = None,
) -> None:
    """Write the application package for a new Vespa: its services, and the schemas of Sercha's documents."""
    from sercha.adapters.vespa.package import Node, make_package

    settings = start(Role.CLIENT, {})
    nodes = [Node(host, **roles) for host, roles in map(_read_node, node or ())]
    for path, content in make_package(nodes=nodes, cluster=settings.vespa_cluster).items():
        file = folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise Rejected(f"{safe(str(file))} cannot be written: {error.strerror}") from error
        print(safe(str(file)))


def _read_node(text: str) -> tuple[str, dict[str, bool]]:
    host, equals, roles = text.partition("=")
    named = [role.strip() for role in roles.split(",")]
    if not host or not equals or not set(named) <= ROLES.keys():
        raise WrongUsage(f"--node: {safe(text)} is not HOST=ROLES with some of {', '.join(ROLES)}")
    return host, {ROLES[role]: True for role in named}


@app.command()
def deploy(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Deploy to VESPA_CONFIG_URL, keeping what is there; workers do the same when they begin to feed."""
    run_async(partial(_deploy, start(Role.CLIENT, {}), as_json=as_json))


async def _deploy(settings: Settings, *, as_json: bool) -> None:
    from sercha.adapters.vespa.deploy import Deployer
    from sercha.adapters.vespa.package import make_package

    if not settings.vespa_config_url:
        raise WrongUsage("VESPA_CONFIG_URL: is required")
    deployer = Deployer(settings.vespa_config_url, settings.vespa_container_url)
    cluster = settings.vespa_cluster
    vectors = await deployer.vector_fields()
    done = await deployer.deploy(make_package(vectors, cluster=cluster), cluster=cluster)
    if as_json:
        print_json({"session": done.session or None, "actions": done.actions})
        return
    print(f"deployed: session {done.session}" if done.session else "nothing to deploy")
    for name, entries in done.actions.items():
        if entries:
            print(f"Vespa asks for {name}: {safe(str(entries))}", file=sys.stderr)
