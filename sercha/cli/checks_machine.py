"""What `sercha doctor` finds in a process's surroundings: proxies, limits, locale, shared memory."""

from __future__ import annotations

import locale
import sys
from collections.abc import Mapping

from sercha.adapters.embedded_postgres.process import shared_memory
from sercha.cli.checks import Finding, Verdict
from sercha.cli.limits import OPEN_FILES_MIN, open_files
from sercha.cli.proxies import PROXY_SCHEMES, proxy_variables


def check_surroundings(environ: Mapping[str, str]) -> list[Finding]:
    """Check what the system and the environment give every process of Sercha."""
    return [
        *_check_proxies(environ),
        _check_open_files(),
        _check_names(),
        _check_shared_memory(),
    ]


def _check_proxies(environ: Mapping[str, str]) -> list[Finding]:
    given = proxy_variables(environ)
    if not given:
        return []
    unusable = [name for name, value in given.items() if not _is_usable(value)]
    if unusable:
        message = f"{', '.join(unusable)}: only {' and '.join(PROXY_SCHEMES)} can be used"
        mend = "unset it for `sercha`; a Sercha on this machine is asked without any proxy"
        return [Finding("proxy", Verdict.WARN, message, mend)]
    names = ", ".join(given)
    message = f"{names}: used for a Sercha on another machine, never on loopback"
    return [Finding("proxy", Verdict.OK, message)]


def _is_usable(value: str) -> bool:
    return "://" not in value or value.lower().startswith(PROXY_SCHEMES)


def _check_open_files() -> Finding:
    _, most = open_files()
    if most < OPEN_FILES_MIN:
        message = f"a process may have {most} open"
        mend = f"raise the limit to {OPEN_FILES_MIN} or more (`ulimit -n`, `LimitNOFILE=`)"
        return Finding("open files", Verdict.FAIL, message, mend)
    return Finding("open files", Verdict.OK, f"a process may have {most} open")


def _check_names() -> Finding:
    encoding = sys.getfilesystemencoding()
    shown = f"{encoding}, locale {locale.setlocale(locale.LC_CTYPE)}"
    if encoding.lower().replace("-", "") != "utf8":
        mend = "set LC_ALL=C.UTF-8, or unset PYTHONUTF8 and PYTHONCOERCECLOCALE"
        return Finding("names", Verdict.WARN, f"names of files are read as {shown}", mend)
    return Finding("names", Verdict.OK, f"names of files are read as {shown}")


def _check_shared_memory() -> Finding:
    if shared_memory():
        message = "too little for PostgreSQL: the private one uses files in the data folder instead"
        return Finding("shared memory", Verdict.OK, message)
    return Finding("shared memory", Verdict.OK, "enough for PostgreSQL")
