"""Writes the reference pages that follow from code: ``python -m sercha.cli.docs docs/reference``.

A test fails when a page is not what this module makes of the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from sercha.settings import SETTINGS, UNSUPPORTED, Role, Setting

_CONFIGURATION_HEAD = """\
# Configuration

Sercha reads its settings from environment variables, once, at its start. `sercha config` prints all of them with
their sources; `sercha doctor` checks what they lead to.

- An empty variable counts as not set. Unset settings have the default named here.
- A value that is not allowed, or a required one that is missing, ends the start with exit status 2 and a line for
  each mistake that names the variable and what is allowed.
- Settings marked *secret* can also be given as a file: `JWT_SECRET_FILE=/run/secrets/jwt` reads the secret from
  there. White space around it is cut off. A variable and its file together are a mistake.
- Durations are `30` (seconds), `30s`, `500ms`, `5m` or `1h`. Truth values are `true`, `false`, `1` or `0`.
- A variable that begins with `SERCHA_` and is no setting, or whose name is nearly that of one, is logged as
  `setting.unknown` with the nearest name.
- Flags of the command line (`--port`, `--host`, `--data-dir`) win over variables.
"""

_CONFIGURATION_TAIL = """\
## Not supported by this version

{names}: Sercha refuses to start while one of them is set, rather than ignore it.
"""

_CLI_HEAD = """\
# Command line

`sercha` runs Sercha (`up`, `api`, `worker`, `all`, `run`, `migrate`) and talks to a running one (everything else).
Without the installed command, `python -m sercha` does the same.

Commands that talk to a running Sercha use its HTTP API. Address and log-in come from `SERCHA_URL` and
`SERCHA_TOKEN`, else from the profile that `sercha up`, `sercha setup` and `sercha login` write:
`$XDG_CONFIG_HOME/sercha/profile.json` (`~/.config/sercha/profile.json`), mode 0600. Tokens of the profile only
go to the profile's address, and are renewed by themselves. Addresses on this machine are reached without the
environment's proxy.

Output for people is for terminals. In a pipe, tables become lines with tabs and no header, and progress becomes
plain lines on stderr; `--json` is the form to rely on in programs.

## Exit status

| Status | Meaning |
|---|---|
| 0 | done |
| 1 | failed; one line on stderr says why |
| 2 | wrong use: an unknown command or option, a value out of its bounds, or a setting that is missing or not allowed |
| 75 | a server: its scheduler did not come to an end after it had lost the lease (the process stood still, say); start it again |
| 130 | interrupted by Ctrl-C (a server: by the second one) |
| 141 | whoever read the output stopped reading |

## Waiting for a sync

`sercha sync --wait`, `sercha source sync --wait` and `sercha source add --wait` return when searches find what the sync
brought. After the sync itself they wait for the index of the API that answers, for as long as that makes progress;
the progress then counts documents *made searchable*. The line with the counts comes at the end of all that.
`sercha up --index` prints it in the same way.

When the index makes no progress for 60 seconds, the line ends in `not searchable yet` with the reason and the exit
status is 1. `sercha sync --wait --json` has for each source:

| Field | Meaning |
|---|---|
| `source_id` | which source |
| `name` | its name |
| `task_id` | which task synced it |
| `completed` | `true`: the sync read the source to its end |
| `searchable` | `true`: searches find all that it brought; never without `completed` |
| `message` | the line for people |
| `state` | where the sync stands, as in the [HTTP API](http-api.md) |

## Completion

`sercha --install-completion` teaches the shell you are in (bash, zsh, fish) to complete commands and options, by a line
in its start-up file; `sercha --show-completion` prints what that does.

## Colours

On a terminal only, and not with `NO_COLOR` set. Into a pipe go plain lines, with tabulators between the columns.

## Signals

SIGTERM, SIGINT (Ctrl-C) and SIGHUP drain a server: new requests are refused, running requests and tasks may end within
`SHUTDOWN_GRACE`, the rest is given back, and the exit status is 0. A second signal ends it at once.
"""


def configuration_page() -> str:
    """Return ``configuration.md``."""
    parts = [_CONFIGURATION_HEAD, *(_setting(setting) for setting in SETTINGS)]
    names = ", ".join(f"`{name}`" for name in UNSUPPORTED)
    return "\n".join([*parts, _CONFIGURATION_TAIL.format(names=names)])


def command_page() -> str:
    """Return ``cli.md``."""
    return "\n".join([_CLI_HEAD, "## Commands\n", *(_command(*pair) for pair in commands())])


def commands() -> list[tuple[str, Any]]:
    """Return every command that does something, with its full name, in the order of the help."""
    from sercha.cli.main import make_app

    return list(_walk("sercha", typer.main.get_command(make_app())))


def main() -> None:
    """Write both pages into the folder that is given."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sercha.cli.docs FOLDER")
    folder = Path(sys.argv[1])
    (folder / "configuration.md").write_text(configuration_page(), "utf-8")
    (folder / "cli.md").write_text(command_page(), "utf-8")


def _setting(setting: Setting) -> str:
    default = setting.default_note or (f"`{setting.default}`" if setting.default else "none")
    lines = [f"## {setting.name}\n", setting.meaning + "\n", f"- Allowed: {setting.allowed}"]
    lines.append(f"- Default: {default}")
    if setting.required_in:
        roles = ", ".join(f"`{role}`" for role in Role if role in setting.required_in)
        lines.append(f"- Required: {roles}")
    if setting.flag:
        lines.append(f"- Flag: `{setting.flag}`")
    if setting.is_secret:
        lines.append(f"- Secret; also as `{setting.name}_FILE`")
    return "\n".join(lines) + "\n"


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children: dict[str, Any] = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child_name, child in children.items():
        yield from _walk(f"{name} {child_name}", child)


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([name, *(_argument(each) for each in arguments)])
    lines = [f"### {name}\n", f"`{usage}`\n", f"{command.help}\n"]
    for each in command.params:
        if each.name == "help":
            continue
        shown = _argument(each) if each in arguments else ", ".join(each.opts)
        lines.append(f"- `{shown}`: {each.help}")
    if lines[-1].startswith("- "):
        lines.append("")
    example = str(command.epilog).removeprefix("Such as: ")
    return "\n".join([*lines, f"```bash\n{example}\n```\n"])


def _argument(argument: Any) -> str:
    name = str(argument.name).upper()
    many = "..." if argument.nargs != 1 else ""
    return f"{name}{many}" if argument.required else f"[{name}]{many}"


if __name__ == "__main__":
    main()
