"""REDIS_URL: what is an address, and that its password never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockd._redis_address import parse_address
from sercha.settings import Role, ValueSource, describe, load_settings
from sercha.settings.redis_url import mask_redis_url, parse_redis_url
from tests.unit.test_settings import load, refusal

PASSWORD = "hUsH-wOrD"
GOOD = [
    "redis://box",
    "redis://box/",
    "redis://box:7000/3",
    "redis://box/?db=4",
    f"redis://:{PASSWORD}@10.0.0.1/0",
    f"redis://me:{PASSWORD}@[::1]:1/0",
    "redis://:p%40ss%2F%23@box",
    f"rediss://:{PASSWORD}@box:6380/1?ssl_check_hostname=no&ssl_cert_reqs=none",
    "redis+sentinel://h1/mymaster",
    f"redis+sentinel://me:{PASSWORD}@h1:26379,h2/mymaster/3?sentinel_password={PASSWORD}",
    f"rediss+sentinel://:{PASSWORD}@h1:1,h2:2/mymaster/?db=2&ssl_cert_reqs=none",
]
BAD = [
    PASSWORD,
    f"http://:{PASSWORD}@box",
    f"redis+cluster://:{PASSWORD}@box",
    f"unix:///{PASSWORD}.sock",
    "redis://",
    "redis:///0",
    f"redis://:{PASSWORD}/1@box",
    f"redis://:{PASSWORD}#1@box:1",
    f"redis://:[{PASSWORD}@box",
    f"redis://:pw@box:{PASSWORD}",
    "redis://:pw@box:70000",
    "redis://:pw@box:0",
    f"redis://box/{PASSWORD}",
    "redis://box/-1",
    f"redis://box/0?{PASSWORD}",
    f"redis://box/0?password={PASSWORD}",
    "redis://box/0?ssl_cert_reqs=none",
    "rediss://box/0?ssl_cert_reqs=perhaps",
    "rediss://box/0?ssl_keyfile=/k.pem",
    f"redis+sentinel://:{PASSWORD}@h1:1,h2:2/",
    f"redis+sentinel://:{PASSWORD}@h1:1,:2/mymaster",
    f"redis+sentinel://:{PASSWORD}@h1:1,h2:x/mymaster",
    f"redis+sentinel://:{PASSWORD}@h1/mymaster/{PASSWORD}",
    "redis+sentinel://h1/mymaster?ssl_ca_certs=/ca.pem",
    f"redis://h1,h2/0?sentinel_password={PASSWORD}",
]


@pytest.mark.parametrize("url", GOOD)
def test_an_address_is_taken_as_it_is_and_the_client_takes_it_too(url: str) -> None:
    assert load(REDIS_URL=url).redis_url == url
    assert parse_address(url)


@pytest.mark.parametrize("url", BAD)
def test_a_wrong_address_is_refused_without_showing_the_password(url: str) -> None:
    message = refusal(REDIS_URL=url)
    assert message.startswith("REDIS_URL: ")
    assert "redis://user:password@host:6379/0" in message
    assert PASSWORD not in message


@pytest.mark.parametrize("url", [*GOOD, *BAD])
def test_a_mask_never_shows_the_password(url: str) -> None:
    assert PASSWORD not in mask_redis_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://box:7000/3", "redis://box:7000/3"),
        (f"redis://:{PASSWORD}@box", "redis://:***@box"),
        (f"rediss://me:{PASSWORD}@[::1]:1/0", "rediss://me:***@[::1]:1/0"),
        ("rediss://box/0?ssl_ca_certs=/etc/ca.pem", "rediss://box/0?ssl_ca_certs=/etc/ca.pem"),
        ("redis://me:p@box/0#x", "***"),
        (
            "redis+sentinel://:pw@h1:26379,h2/mymaster/3?sentinel_password=other",
            "redis+sentinel://:***@h1:26379,h2/mymaster/3?sentinel_password=***",
        ),
    ],
)
def test_a_mask_shows_the_rest(url: str, shown: str) -> None:
    assert mask_redis_url(url) == shown


def test_it_comes_from_a_file_too_and_is_shown_masked(tmp_path: Path) -> None:
    file = tmp_path / "redis"
    file.write_text(f"redis://:{PASSWORD}@box:7000/0\n")
    loaded = load(REDIS_URL_FILE=str(file))
    assert parse_redis_url(loaded.redis_url or "") == f"redis://:{PASSWORD}@box:7000/0"
    assert loaded.sources["REDIS_URL"] is ValueSource.FILE
    row = next(row for row in describe(loaded) if row.name == "REDIS_URL")
    assert row.value == "redis://:***@box:7000/0"
    assert PASSWORD not in repr(loaded)


def test_without_it_there_is_none_and_up_makes_its_own() -> None:
    assert load().redis_url is None
    loaded = load_settings({"HOME": "/home/me"}, role=Role.UP)
    assert loaded.redis_url is None
    assert loaded.sources["REDIS_URL"] is ValueSource.GENERATED
