"""A backup of a deployment, its end, and its return, by the commands of the manual."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.containers import EMAIL, PASSWORD, ROOT, Deployment, run

pytestmark = pytest.mark.containers
MANUAL = ROOT / "docs" / "how-to" / "run-in-containers.md"
COUNTED = ("document", "chunk", "schedule", "source", "account")


@pytest.fixture
def deployment(
    image: str, small: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Give a deployment of its own, since it is removed in the middle."""
    own = Deployment(
        tmp_path_factory.mktemp("backup"), ("compose.small.yaml",), settings=small.settings
    )
    own.make_secrets()
    try:
        own.up()
        own.set_up()
        yield own
    finally:
        own.down()


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


async def test_all_is_back_after_the_volumes_were_removed(deployment: Deployment) -> None:
    for number in range(200):
        (deployment.documents / f"page-{number}.md").write_text(
            f"# Page {number}\n\nhandbook {number}\n"
        )
    deployment.sercha("source", "add", "/documents", "--name", "documents", "--wait")
    deployment.sercha("schedules", "add", "nightly", "--task", "prune", "--every", "1d")
    before = await contents(deployment)
    assert before["document"] == [(201,)]
    shell = ["sh", "-euc"]
    options = {"env": deployment.environ, "cwd": deployment.home}
    run([*shell, commands("Back up")], **options)
    assert (deployment.home / "sercha.dump").stat().st_size > 10_000
    deployment.down()
    assert deployment.states() == {}
    run([*shell, commands("Restore")], **options)
    deployment.wait_healthy()
    assert await contents(deployment) == before
    deployment.log_in()
    deployment.sercha("login", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n")
    report = json.loads(deployment.sercha("index", "verify", "--json"))
    assert [report[name] for name in ("checked", "missing", "stale", "ghost")] == [201, 0, 0, 0]
    assert "/documents/page-7.md" in deployment.sercha("search", "handbook 7")
