"""Fixtures of the golden cases, and the note on what they ran against."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import pytest

from tests.contract.vespa.endpoint import Endpoint, open_endpoint
from tests.vespa import Vespa, open_vespa
from tests.vespa.example import example_files


@pytest.fixture
async def endpoint() -> AsyncGenerator[Endpoint]:
    """Give the example on the stand-in, or on the real Vespa of VESPA_URL."""
    async with open_endpoint() as found:
        yield found


@pytest.fixture
async def vespa() -> AsyncGenerator[Vespa]:
    """Give a stand-in with two containers and the example."""
    async with open_vespa(containers=2) as found:
        found.deploy(example_files())
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the golden cases prove."""
    url = os.environ.get("VESPA_URL")
    text = (
        f"The golden cases ran against {url}."
        if url
        else "The golden cases ran against the stand-in only: VESPA_URL is not set, no real Vespa was asked."
    )
    terminalreporter.section("Vespa")
    terminalreporter.write_line(text)
