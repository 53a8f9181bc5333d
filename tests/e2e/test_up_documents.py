"""Documents of many formats in a folder: found with their page, slide or sheet, and read by processes that end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import documents
from tests.support.sercha import Sercha, clean_up

SECONDS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "papers"
    folder.mkdir()
    pages = ["The cover.", "Oolong is half oxidised.", "Water must not boil."]
    files = {
        "report.pdf": documents.make_pdf(pages),
        "talk.pptx": documents.make_pptx([("One", "Begin", ""), ("Two", "Sencha is steamed", "")]),
        "sales.xlsx": documents.make_xlsx({"North": [["x"]], "South": [["Gyokuro", 12]]}),
        "letter.docx": documents.make_docx([("Heading 1", "Greetings"), ("", "Assam grows wild.")]),
        "page.html": b"<!doctype html><nav>Darjeeling menu</nav><main><p>"
        + b"Keemun smokes. " * 20,
        "secret.pdf": documents.make_pdf(["hidden"], password="x"),
        "broken.docx": documents.make_docx([("", "cut off")])[:900],
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    yield folder
    clean_up(tmp_path)


def parsers_of(pid: int) -> list[int]:
    """Return the parser processes of a worker."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for each in listed for child in each.read_text().split()]
    return [child for child in children if b"parsing.child" in command_line(child)]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, pids
        time.sleep(0.02)


@pytest.mark.proof
def test_documents_are_found_at_their_place_and_processes_end(folder: Path) -> None:
    home = folder.parent
    start = ["up", "--data-dir", str(home / "data"), "--port", "0", "--index", str(folder)]
    sercha = Sercha(home, *start).wait_ready()
    sercha.cli("sync", "--all", "--wait")

    def only(word: str) -> dict[str, Any]:
        (result,) = json.loads(sercha.cli("search", word, "--json").stdout)["results"]
        return result

    for word, name, place in (
        ("oolong", "report.pdf", "page 2"),
        ("boil", "report.pdf", "page 3"),
        ("steamed", "talk.pptx", "slide 2"),
        ("gyokuro", "sales.xlsx", "sheet South"),
        ("assam", "letter.docx", "Greetings"),
    ):
        found = only(word)
        assert found["document"]["path"] == str(folder / name)
        assert found["chunk"]["heading"] == place
        assert f"<mark>{word}</mark>" in found["highlights"][0].lower()
    assert f"{folder / 'report.pdf'} (page 2)" in sercha.cli("search", "oolong").stdout
    assert only("keemun")["document"]["mime_type"] == "text/html"
    assert json.loads(sercha.cli("search", "darjeeling", "--json").stdout)["results"] == []
    assert only("oolong")["document"]["metadata"]["author"] == "Ada Example"
    issues = json.loads(sercha.cli("source", "issues", "papers", "--json").stdout)
    codes = {Path(each["external_id"]).name: each["code"] for each in issues}
    assert codes == {"secret.pdf": "encrypted", "broken.docx": "broken"}

    parsers = parsers_of(sercha.process.pid)
    assert parsers
    assert sercha.stop() == 0
    wait_gone(parsers)

    (folder / "late.pdf").write_bytes(documents.make_pdf(["Matcha is ground."]))
    sercha = Sercha(home, *start).wait_ready()
    sercha.cli("sync", "--all", "--wait")
    parsers = parsers_of(sercha.process.pid)
    assert only("matcha")["chunk"]["heading"] == "page 1"
    sercha.process.kill()
    sercha.wait()
    wait_gone(parsers)
