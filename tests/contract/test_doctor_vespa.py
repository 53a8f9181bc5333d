"""What `sercha doctor` says about Vespa."""

from __future__ import annotations

from sercha.cli.checks import Finding, Verdict
from sercha.cli.checks_vespa import check_vespa
from sercha.settings import Role, Settings, load_settings
from tests.support.vespa import open_setup
from tests.vespa import Fault, Vespa, open_vespa
from tests.vespa.example import example_files

COMMON = {
    "MASTER_KEY": "a1" * 32,
    "HOME": "/nowhere",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
}


def settings(vespa: Vespa) -> Settings:
    urls = {
        "VESPA_CONTAINER_URL": ",".join(vespa.container_urls),
        "VESPA_CONFIG_URL": vespa.config_url,
    }
    return load_settings({**COMMON, **urls}, role=Role.WORKER)


def verdicts(findings: list[Finding]) -> list[tuple[str, Verdict]]:
    return [(each.name, each.verdict) for each in findings]


async def test_a_vespa_that_is_as_it_should_be_is_ok() -> None:
    async with open_setup() as setup:
        findings = await check_vespa(settings(setup.vespa))

    assert verdicts(findings) == [
        ("vespa container", Verdict.OK),
        ("vespa container", Verdict.OK),
        ("vespa config", Verdict.OK),
    ]


async def test_each_fault_is_told_apart() -> None:
    async with open_vespa(containers=3) as vespa:
        vespa.deploy(example_files())
        await vespa.stop_container(0)
        vespa.faults.add(Fault("out-of-rotation", container=1))
        vespa.faults.add(Fault("initializing"))

        away, out, unknown, config = await check_vespa(settings(vespa))

    assert away.verdict is Verdict.FAIL
    assert (out.verdict, "out of rotation" in out.message) == (Verdict.WARN, True)
    assert (unknown.verdict, "sercha vespa deploy" in unknown.mend) == (Verdict.WARN, True)
    assert (config.verdict, "initializing" in config.message) == (Verdict.WARN, True)


async def test_a_config_server_that_is_away_is_only_warned_of() -> None:
    async with open_setup() as setup:
        await setup.vespa.stop_config()
        findings = await check_vespa(settings(setup.vespa))

    assert verdicts(findings)[-1] == ("vespa config", Verdict.WARN)


async def test_with_the_embedded_engine_nothing_is_asked() -> None:
    assert await check_vespa(load_settings(COMMON, role=Role.WORKER)) == []
