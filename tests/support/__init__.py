"""What several tests share: servers of their own, and the rule for what this machine lacks."""

from __future__ import annotations

import os

import pytest


def require(name: str, present: object, reason: str) -> None:
    """Skip the running test with the reason unless `present`; fail if `name` was demanded.

    `SERCHA_TEST_REQUIRE` is a comma list of the names that this run demands (`postgres,root`).
    """
    if present:
        return
    demanded = {word.strip() for word in os.environ.get("SERCHA_TEST_REQUIRE", "").split(",")}
    if name in demanded:
        pytest.fail(f"SERCHA_TEST_REQUIRE names {name!r}, but: {reason}", pytrace=False)
    pytest.skip(reason)
