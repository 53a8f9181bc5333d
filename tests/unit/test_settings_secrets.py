"""Secrets among the settings: where they come from, which are refused, and that they never show."""

import os
import random
from pathlib import Path

import pytest

from sercha.settings import ValueSource, describe
from sercha.settings.database_url import mask_database_url
from tests.unit.test_settings import GOOD, PASSWORD, load, refusal


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{PASSWORD}@db/sercha",
        f"postgresql://u:{PASSWORD}@db:port/sercha",
        f"postgresql://u:{PASSWORD}@db:70000/sercha",
        f"postgresql://u:{PASSWORD}@h1:1,h2:2,h3/x?port=1,2",
        f"postgresql://u:{PASSWORD}@db/sercha?sslmod=require",
        f"postgresql://u:{PASSWORD}@db/sercha?sslmode=on",
        f"postgresql://u:{PASSWORD}@db/sercha?target_session_attrs=primry",
        f"postgresql://u:{PASSWORD}@db/sercha?connect_timeout=soon",
        f"host=db password={PASSWORD} dbname",
        f"host=db password='{PASSWORD}",
        f"{PASSWORD}",
    ],
)
def test_wrong_database_url_is_refused_without_showing_the_password(url: str):
    message = refusal(DATABASE_URL=url)

    assert message.startswith("DATABASE_URL: ")
    assert "postgresql://user:password@host:5432/database" in message
    assert PASSWORD not in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            f"postgresql://u:{PASSWORD}@h1:1,[::1]:2/x?sslmode=require",
            "postgresql://u:***@h1:1,[::1]:2/x?sslmode=require",
        ),
        (f"host=h1,h2 port=5 user=u password={PASSWORD}", "postgresql://u:***@h1:5,h2:5/"),
        (
            f"postgresql:///x?host=/run/pg&sslpassword={PASSWORD}",
            "postgresql://%2Frun%2Fpg/x?sslpassword=***",
        ),
        ("postgres://db/x", "postgresql://db/x"),
        (f"broken {PASSWORD}", "***"),
    ],
)
def test_database_url_is_shown_without_its_password(url: str, shown: str):
    assert mask_database_url(url) == shown


@pytest.mark.parametrize(
    "secret", ["change-me-in-production", "CHANGEME", "secret", "0123456789abcdef" * 4]
)
def test_well_known_secret_is_refused_except_in_development(secret: str):
    assert "well-known default" in refusal(JWT_SECRET=secret)
    assert load(JWT_SECRET=secret, SERCHA_DEV="1").jwt_secret == secret


def test_short_secret_is_refused_without_showing_it():
    message = refusal(JWT_SECRET="Xy7-" * 7)

    assert "too short (28 bytes)" in message
    assert "Xy7-" not in message


@pytest.mark.parametrize("text", ["ab" * 31, "zz" * 32, "kurz"])
def test_master_key_of_another_length_is_refused_except_in_development(text: str):
    message = refusal(MASTER_KEY=text)

    assert "32 bytes" in message
    assert text not in message
    assert len(load(MASTER_KEY=text, SERCHA_DEV="true").master_key or b"") == 32


def test_master_key_is_taken_in_base64_too():
    key = load(MASTER_KEY="-_8AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0=").master_key

    assert key is not None
    assert key.startswith(b"\xfb\xff\x00\x01")


def test_secret_comes_from_a_file_without_the_white_space_around_it(tmp_path: Path):
    file = tmp_path / "jwt"
    file.write_text("f1Le" * 10 + "\n")

    loaded = load(JWT_SECRET="", JWT_SECRET_FILE=str(file))

    assert loaded.jwt_secret == "f1Le" * 10
    assert loaded.sources["JWT_SECRET"] is ValueSource.FILE


def test_secret_and_its_file_together_are_a_mistake(tmp_path: Path):
    file = tmp_path / "jwt"
    file.write_text("f1Le" * 10)

    assert "given twice" in refusal(JWT_SECRET_FILE=str(file))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff" * 40, "not text in UTF-8"),
        (b"a\0b" * 20, "NUL"),
        (b"a" * 70_000, "longer than"),
    ],
)
def test_unusable_secret_file_is_refused_naming_it(
    content: bytes | None, reason: str, tmp_path: Path
):
    file = tmp_path / "jwt"
    if content is not None:
        file.write_bytes(content)

    message = refusal(JWT_SECRET="", JWT_SECRET_FILE=str(file))

    assert message.startswith("JWT_SECRET_FILE: ")
    assert str(file) in message
    assert reason in message


def test_folder_as_secret_file_is_refused(tmp_path: Path):
    assert "Is a directory" in refusal(JWT_SECRET="", JWT_SECRET_FILE=str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_secret_file_is_refused(tmp_path: Path):
    file = tmp_path / "jwt"
    file.touch(mode=0o000)

    assert "Permission denied" in refusal(JWT_SECRET="", JWT_SECRET_FILE=str(file))


def test_plain_settings_have_no_file_variant(tmp_path: Path):
    file = tmp_path / "port"
    file.write_text("9999")

    assert load(PORT_FILE=str(file)).port == 8080


def test_no_secret_is_in_repr_or_description():
    loaded = load(SETUP_TOKEN="sEtUpToKeN", SERCHA_TOKEN="bEaReRtOkEn")
    shown = repr(loaded) + repr(describe(loaded))

    for secret in (PASSWORD, GOOD["JWT_SECRET"], GOOD["MASTER_KEY"], "sEtUpToKeN", "bEaReRtOkEn"):
        assert secret not in shown
    assert repr(loaded.master_key) not in shown


def test_random_secret_never_shows_in_an_error(seed: int):
    secret = "".join(random.Random(seed).choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=20))

    message = refusal(JWT_SECRET=secret, MASTER_KEY=secret, SETUP_TOKEN=secret + " x", PORT="x")

    assert len(message.splitlines()) == 4
    assert secret not in message
