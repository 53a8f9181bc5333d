"""The parsers of all kinds; what each needs is imported when its first file comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from sercha.adapters.parsing.builder import Job
from sercha.domain.document import ExtractedText

Parse = Callable[[Job], ExtractedText]


def _lazily(module: str, function: str = "parse") -> Parse:
    def parse(job: Job) -> ExtractedText:
        loaded: Parse = getattr(import_module(f"sercha.adapters.parsing.{module}"), function)
        return loaded(job)

    return parse


PARSERS: Mapping[str, Parse] = {
    "pdf": _lazily("pdf"),
    "package": _lazily("package"),
    "rtf": _lazily("rtf"),
    "html": _lazily("html"),
    "mail": _lazily("mail"),
    "notebook": _lazily("structured", "parse_notebook"),
    "json": _lazily("structured", "parse_json"),
    "table": _lazily("structured", "parse_table"),
}
"""By the value of `Kind`."""
