"""`sercha lease`: who may act."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from urllib.parse import quote

import typer

from sercha.cli.api import open_api
from sercha.cli.confirm import Yes, confirm
from sercha.cli.exits import run_async
from sercha.cli.show import print_json, print_table, safe

app = typer.Typer(help="Who holds which lease.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the leases that were held at some time, and who holds them."""
    run_async(partial(_list, as_json=as_json))


@app.command()
def release(
    name: Annotated[str, typer.Argument(help="Name of the lease, such as scheduler.")],
    yes: Yes = False,
) -> None:
    """Take a lease away from whoever holds it; that one can commit nothing any more."""
    confirm("lease release", f"Take the lease {safe(name)} away from its holder?", yes)
    run_async(partial(_release, name))


async def _list(*, as_json: bool) -> None:
    async with open_api() as api:
        leases = (await api.get("/leases"))["leases"]
    if as_json:
        print_json(leases)
        return
    print_table(
        ["name", "holder", "ends in", "token"],
        [
            [
                each["name"],
                each.get("holder", "nobody"),
                f"{each['remaining']:.1f} s" if "remaining" in each else "",
                each["token"],
            ]
            for each in leases
        ],
        empty="no lease was ever held",
    )


async def _release(name: str) -> None:
    async with open_api() as api:
        await api.post(f"/leases/{quote(name, safe='')}/release")
    print(f"{safe(name)}: released")
