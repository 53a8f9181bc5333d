"""A backup of a deployment, its end, and its return, by the commands of the manual."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.containers import EMAIL, PASSWORD, ROOT, Deployment, run

pytestmark = [pytest.mark.containers, pytest.mark.thorough]
MANUAL = ROOT / "docs" / "how-to" / "run-in-containers.md"
COUNTED = ("document", "chunk", "schedule", "source", "account")


def commands(heading: str) -> str:
    """Return the commands below a heading of the manual."""
    page = MANUAL.read_text().split(f"## {heading}\n")[1]
    block = re.search(r"```bash\n(.*?)```", page, re.DOTALL)
    assert block, heading
    return block[1]


async def contents(deployment: Deployment) -> dict[str, list[tuple[object, ...]]]:
    """Return what must be there again: how much of everything, and the documents' texts."""
    found = {table: await deployment.query(f"SELECT count(*) FROM {table}") for table in COUNTED}
    found["texts"] = await deployment.query("SELECT path, md5(text) FROM document ORDER BY path")
    found["schedules"] = await deployment.query("SELECT name, spec FROM schedule ORDER BY name")
    return found


async def test_all_is_back_after_the_volumes_were_removed(small: Deployment) -> None:
    """What comes after this in the session is seen on a deployment that was restored."""
    for number in range(200):
        (small.documents / f"page-{number}.md").write_text(
            f"# Page {number}\n\nhandbook {number}\n"
        )
    small.sercha("source", "add", "/documents", "--name", "pages", "--wait")
    small.sercha("schedules", "add", "nightly", "--task", "prune", "--every", "1d")
    before = await contents(small)
    assert before["document"] == [(201,)]
    shell = ["sh", "-euc"]
    options = {"env": small.environ, "cwd": small.home}
    run([*shell, commands("Back up")], **options)
    assert (small.home / "sercha.dump").stat().st_size > 10_000
    small.down()  # with the volumes
    assert small.states() == {}
    run([*shell, commands("Restore")], **options)
    small.wait_healthy()
    assert await contents(small) == before
    small.log_in()
    small.sercha("login", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n")
    report = json.loads(small.sercha("index", "verify", "--json"))
    assert [report[name] for name in ("checked", "missing", "stale", "ghost")] == [201, 0, 0, 0]
    assert "/documents/page-7.md" in small.sercha("search", "handbook 7")
    small.sercha("source", "remove", "pages", "--yes")
    small.sercha("schedules", "remove", "nightly", "--yes")
    for page in small.documents.glob("page-*.md"):
        page.unlink()
