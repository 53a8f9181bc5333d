"""`sercha doctor`: looks for what keeps Sercha from working, and says how to mend it."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer
from rich.text import Text

from sercha.cli.checks import Finding, Verdict, check_machine, check_settings
from sercha.cli.checks_machine import check_surroundings
from sercha.cli.checks_net import check_api, check_database, check_port, check_redis
from sercha.cli.checks_parsing import check_parsers
from sercha.cli.checks_vespa import check_vespa
from sercha.cli.config import RoleOption, likely_role
from sercha.cli.exits import Status, run_async
from sercha.cli.show import Output, is_terminal, print_json, safe
from sercha.settings import Role

_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("doctor")(doctor)


def doctor(
    role: RoleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, PostgreSQL, Redis, Vespa, parsers, folders, port and health; exit status 1 if anything fails."""
    run_async(partial(_doctor, role or likely_role(os.environ), as_json=as_json))


async def _doctor(role: Role, *, as_json: bool) -> int:
    settings, findings = check_settings(os.environ, role)
    if settings is not None:
        findings += check_machine(settings)
        findings += await check_parsers(settings)
        findings += check_surroundings(os.environ)
        findings += await check_database(settings)
        findings += await check_redis(settings)
        findings += await check_vespa(settings)
        findings += await check_port(settings)
    findings += await check_api(os.environ)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    has_failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    return Status.FAILED if has_failed else Status.DONE


def _print(finding: Finding) -> None:
    console = Output(highlight=False, soft_wrap=True)
    style = _STYLES[finding.verdict] if is_terminal() else ""
    line = Text(f"{finding.verdict:<5}", style=style)
    console.print(line + Text(f"{safe(finding.name)}: {safe(finding.message)}", style=""))
    if finding.mend:
        console.print(Text(f"     mend: {safe(finding.mend)}"))
