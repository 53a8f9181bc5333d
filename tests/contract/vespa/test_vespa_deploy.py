"""Golden cases: the config server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.contract.vespa.endpoint import DEPLOY, INSTANCE, Endpoint
from tests.vespa import Fault, Vespa, open_vespa
from tests.vespa.example import changed, example_files, override, zipped

TENANT = "/application/v2/tenant/default"
ZIP = {"content-type": "application/zip"}
NO_ACTIONS: dict[str, list[Any]] = {"restart": [], "refeed": [], "reindex": []}


async def test_a_deployment_in_one_step(endpoint: Endpoint) -> None:
    answer = await endpoint.deploy(example_files())
    content = answer.json()
    session = content["session-id"]
    assert isinstance(session, str)
    assert content["message"] == f"Session {session} for tenant 'default' prepared and activated."
    assert content["activated"] is True
    assert content["tenant"] == "default"
    assert content["url"].endswith(INSTANCE)
    assert content["configChangeActions"] == NO_ACTIONS
    await endpoint.converge(int(session))
    url = f"{endpoint.config_url}{TENANT}/application/default"
    assert (await endpoint.client.get(url)).json()["generation"] == int(session)
    urls = (await endpoint.client.get(f"{endpoint.config_url}{TENANT}/application/")).json()
    assert [each.endswith(INSTANCE) for each in urls] == [True]


async def test_a_change_of_dimension_needs_an_override(endpoint: Endpoint) -> None:
    await endpoint.put("d", {"vector": [1, 2, 3], "year": 1})
    files = changed(
        "schemas/doc.sd", "vector type tensor<float>(x[3])", "vector type tensor<float>(x[4])"
    )
    refused = await endpoint.deploy(files)
    assert refused.status_code == 400
    assert refused.json()["error-code"] == "INVALID_APPLICATION_PACKAGE"
    assert refused.json()["message"].startswith(
        "Invalid application: field-type-change:\n\tDocument type 'doc': Field 'vector' changed: "
        "data type: 'tensor<float>(x[3])' -> 'tensor<float>(x[4])'\n"
        "To allow this add <allow until='yyyy-mm-dd'>field-type-change</allow> to validation-overrides.xml"
    )
    assert await endpoint.fields("d") is not None
    too_far = await endpoint.deploy({**files, **override("field-type-change", days=40)})
    assert too_far.status_code == 400
    assert "is too far in the future: Max 30 days is allowed" in too_far.json()["message"]
    past = await endpoint.deploy({**files, **override("field-type-change", days=-1)})
    assert past.status_code == 400
    other = await endpoint.deploy({**files, **override("schema-removal", days=3)})
    assert other.status_code == 400
    allowed = await endpoint.deploy({**files, **override("field-type-change", days=3)})
    assert allowed.status_code == 200
    (refeed,) = allowed.json()["configChangeActions"]["refeed"]
    assert (refeed["name"], refeed["documentType"], refeed["clusterName"]) == (
        "field-type-change",
        "doc",
        "docs",
    )
    assert set(refeed["services"][0]) == {"serviceName", "serviceType", "configId", "hostName"}
    await endpoint.converge(int(allowed.json()["session-id"]))
    assert await endpoint.fields("d") == {"year": 1}, "the old vectors are gone"
    assert (await endpoint.put("d", {"vector": [1, 2, 3]})).status_code == 400
    assert (await endpoint.put("d", {"vector": [1, 2, 3, 4]})).status_code == 200


@pytest.mark.parametrize(
    ("old", "new", "kind", "name"),
    [
        ("field price type float { indexing: summary | attribute }", "field price type float { indexing: summary }", "restart", None),
        ("attribute: fast-search\n    }\n    field acl", "}\n    field acl", "restart", None),
        ("max-links-per-node: 16", "max-links-per-node: 32", "restart", None),
        ("distance-metric: angular }\n    }", "distance-metric: euclidean }\n    }", "restart", None),
        ("match: cased\n      attribute: fast-search\n    }\n    field acl", "attribute: fast-search\n    }\n    field acl", "reindex", "indexing-change"),
    ],
    ids=["attribute", "fast-search", "links", "metric", "case"],
)  # fmt: skip
async def test_actions_of_changes(
    endpoint: Endpoint, old: str, new: str, kind: str, name: str | None
) -> None:
    answer = await endpoint.deploy(changed("schemas/doc.sd", old, new))
    assert answer.status_code == 200, answer.text
    actions = answer.json()["configChangeActions"]
    (action,) = actions[kind]
    assert action.get("name") == name
    assert action["clusterName"] == "docs"
    assert action["messages"]
    if kind == "restart":
        assert action["serviceType"] == "searchnode"


async def test_new_and_removed_fields_need_nothing(endpoint: Endpoint) -> None:
    await endpoint.put("d", {"score": 1.0, "year": 1})
    answer = await endpoint.deploy(
        changed("schemas/doc.sd", "field score type double", "field points type double")
    )
    assert answer.json()["configChangeActions"] == NO_ACTIONS
    await endpoint.converge(int(answer.json()["session-id"]))
    assert await endpoint.fields("d") == {"year": 1}
    assert (await endpoint.put("d", {"points": 1.0})).status_code == 200
    assert (await endpoint.put("d", {"score": 1.0})).status_code == 400


async def test_a_type_is_only_removed_on_demand(endpoint: Endpoint) -> None:
    files = changed("services.xml", '<document type="note" mode="index"/>', "")
    del files["schemas/note.sd"]
    refused = await endpoint.deploy(files)
    assert refused.status_code == 400
    assert "schema-removal" in refused.json()["message"]
    allowed = await endpoint.deploy({**files, **override("schema-removal", days=1)})
    assert allowed.status_code == 200
    await endpoint.converge(int(allowed.json()["session-id"]))
    answer = await endpoint.ask("POST", endpoint.path("1", "note"), {"fields": {}})
    assert answer.json()["message"] == "Document type note does not exist"


async def test_a_deployment_step_by_step(endpoint: Endpoint) -> None:
    base, client = endpoint.config_url + TENANT, endpoint.client
    files = changed("services.xml", "<search/>", "<search></search>")
    created = (await client.post(f"{base}/session", content=zipped(files), headers=ZIP)).json()
    session = created["session-id"]
    assert created["message"] == f"Session {session} for tenant 'default' created."
    assert created["prepared"].endswith(f"/session/{session}/prepared")
    url = f"{base}/session/{session}"
    assert (await client.put(f"{url}/active")).status_code == 400, "it is not prepared"
    assert (await client.put(f"{url}/content/files/a%20b", content=b"hello")).status_code == 200
    assert (await client.get(f"{url}/content/files/a%20b")).content == b"hello"
    assert (await client.delete(f"{url}/content/files/a%20b")).status_code == 200
    assert (await client.get(f"{url}/content/files/a%20b")).status_code == 404
    prepared = (await client.put(f"{url}/prepared")).json()
    assert prepared["message"] == f"Session {session} for tenant 'default' prepared."
    assert prepared["activate"].endswith(f"/session/{session}/active")
    assert prepared["configChangeActions"] == NO_ACTIONS
    again = (await client.get(f"{url}/prepared")).json()
    assert again["configChangeActions"] == NO_ACTIONS
    active = (await client.put(f"{url}/active")).json()
    assert (active["tenant"], active["session-id"]) == ("default", session)
    await endpoint.converge(int(session))
    content = await client.get(f"{endpoint.config_url}{INSTANCE}/content/services.xml")
    assert content.content == files["services.xml"]


async def test_a_session_of_the_active_application(endpoint: Endpoint) -> None:
    base, client = endpoint.config_url + TENANT, endpoint.client
    created = (
        await client.post(f"{base}/session", params={"from": endpoint.config_url + INSTANCE})
    ).json()
    listed = (await client.get(f"{base}/session/{created['session-id']}/content/")).json()
    assert {each.rsplit("/content/")[1] for each in listed} == {"schemas/", "services.xml"}


async def test_unknown_sessions(endpoint: Endpoint) -> None:
    client = endpoint.client
    for method, path in (("PUT", "session/9999/prepared"), ("PUT", "prepareandactivate/9999")):
        answer = await client.request(method, f"{endpoint.config_url}{TENANT}/{path}")
        assert (answer.status_code, answer.json()) == (
            404,
            {
                "error-code": "NOT_FOUND",
                "message": "Local session 9999 for 'default' was not found",
            },
        )


async def test_methods_that_are_not_supported(endpoint: Endpoint) -> None:
    answer = await endpoint.client.get(endpoint.config_url + DEPLOY)
    assert (answer.status_code, answer.json()) == (
        405,
        {"error-code": "METHOD_NOT_ALLOWED", "message": "Method 'GET' is not supported"},
    )


async def test_the_files_of_the_application(endpoint: Endpoint) -> None:
    client, base = endpoint.client, f"{endpoint.config_url}{INSTANCE}/content/"
    listed = (await client.get(base)).json()
    assert [each[len(base) :] for each in listed] == ["schemas/", "services.xml"]
    listed = (await client.get(base, params={"recursive": "true"})).json()
    names = [each[len(base) :] for each in listed]
    assert names == ["schemas/", "schemas/doc.sd", "schemas/note.sd", "services.xml"]
    status = (await client.get(base, params={"return": "status"})).json()
    assert {frozenset(each) for each in status} == {frozenset({"name", "status", "md5"})}
    for name, content in example_files().items():
        assert (await client.get(base + name)).content == content
    missing = await client.get(base + "nothing.xml")
    assert (missing.status_code, missing.json()["error-code"]) == (404, "NOT_FOUND")
    other = base.replace("/prod/region/default", "/default/region/somewhere")
    assert (await client.get(other + "services.xml")).status_code == 200


async def test_convergence(endpoint: Endpoint) -> None:
    client, url = endpoint.client, f"{endpoint.config_url}{INSTANCE}/serviceconverge"
    content = (await client.get(url)).json()
    assert content["converged"] is True
    assert content["currentGeneration"] == content["wantedGeneration"]
    assert content["url"].endswith("/serviceconverge")
    container = next(each for each in content["services"] if each["type"] == "container")
    assert set(container) >= {"host", "port", "type", "url", "currentGeneration"}
    one = (await client.get(f"{url}/{container['host']}:{container['port']}")).json()
    assert (one["converged"], one["currentGeneration"]) == (True, content["currentGeneration"])
    gone = (await client.get(f"{url}/nowhere:1")).json()
    assert gone["problem"] == (
        "Host:port (service) no longer part of application, refetch list of services."
    )


async def test_reindexing(endpoint: Endpoint) -> None:
    client, base = endpoint.client, endpoint.config_url + INSTANCE
    answer = await client.post(
        f"{base}/reindex", params={"clusterId": "docs", "documentType": "doc"}
    )
    assert answer.json()["message"] == (
        "Reindexing document types [doc] in 'docs' of application default.default.default"
    )
    status = (await client.get(f"{base}/reindexing")).json()
    assert status["enabled"] is True
    assert list(status["clusters"]["docs"]["pending"]) == ["doc"]
    assert (await client.delete(f"{base}/reindexing")).json() == {"message": "Reindexing disabled"}
    assert (await client.post(f"{base}/reindexing")).json() == {"message": "Reindexing enabled"}
    assert (await client.post(f"{base}/reindex", params={"clusterId": "x"})).status_code == 400
    assert (await client.post(f"{base}/restart")).json() == {"message": "Success"}


async def test_health_of_both_kinds_of_servers(endpoint: Endpoint) -> None:
    for url in (endpoint.config_url, endpoint.url):
        health = (await endpoint.client.get(f"{url}/state/v1/health")).json()
        assert health["status"]["code"] == "up"
        assert (await endpoint.client.get(f"{url}/state/v1/version")).json()["version"]
        assert "handlers" in (await endpoint.client.get(f"{url}/ApplicationStatus")).json()
    status = await endpoint.client.get(f"{endpoint.url}/status.html")
    assert (status.status_code, status.text) == (200, "<title>OK</title>\n")
    handlers = (await endpoint.client.get(f"{endpoint.url}/")).json()["handlers"]
    assert any(
        each["class"].endswith("DocumentV1ApiHandler")
        and "/document/v1/" in str(each["serverBindings"])
        for each in handlers
    )
    assert (await endpoint.client.get(f"{endpoint.url}/metrics/v2/values")).json()["nodes"]


async def test_without_an_application() -> None:
    async with open_vespa() as vespa, httpx.AsyncClient() as client:
        for path in ("", "/environment/prod/region/default/instance/default/reindexing"):
            answer = await client.get(f"{vespa.config_url}{TENANT}/application/default{path}")
            assert answer.status_code == 404
            assert answer.json() == {
                "error-code": "NOT_FOUND",
                "message": "Unknown application id 'default.default.default'",
            }
        status = await client.get(f"{vespa.container_urls[0]}/status.html")
        assert (status.status_code, status.text) == (
            404,
            "No search backends available, VIP status disabled.",
        )


async def test_deletion_of_the_application(vespa: Vespa) -> None:
    url = f"{vespa.config_url}{TENANT}/application/default"
    async with httpx.AsyncClient() as client:
        path = f"{vespa.container_urls[0]}/document/v1/n/doc/docid/1"
        await client.post(path, json={"fields": {}})
        answer = await client.delete(url)
        assert answer.json() == {"message": "Application 'default.default.default' deleted"}
        assert (await client.get(url)).status_code == 404
    assert vespa.store.count("doc") == 0


async def test_two_sessions_conflict(vespa: Vespa) -> None:
    base = vespa.config_url + TENANT
    async with httpx.AsyncClient() as client:
        body = zipped(example_files())
        first, second = [
            (await client.post(f"{base}/session", content=body, headers=ZIP)).json()["session-id"]
            for _ in range(2)
        ]
        for session in (first, second):
            assert (await client.put(f"{base}/session/{session}/prepared")).status_code == 200
        assert (await client.put(f"{base}/session/{second}/active")).status_code == 200
        conflict = await client.put(f"{base}/session/{first}/active")
        assert (conflict.status_code, conflict.json()["error-code"]) == (409, "ACTIVATION_CONFLICT")


async def test_an_activation_that_fails_with_200(vespa: Vespa) -> None:
    before = vespa.application
    vespa.faults.add(Fault("not-activated", count=1))
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            vespa.config_url + DEPLOY, content=zipped(example_files()), headers=ZIP
        )
        assert answer.status_code == 200
        content = answer.json()
        session = content["session-id"]
        assert content["activated"] is False
        assert content["message"].startswith(
            f"Session {session} for tenant 'default' prepared, but activation failed: "
        )
        assert vespa.application is before
        again = await client.put(f"{vespa.config_url}{DEPLOY}/{session}")
        assert again.json() == {
            "message": f"Session {session} for default.default.default activated"
        }
        assert vespa.application is not None
        assert vespa.application.generation == int(session)


async def test_services_that_take_the_generation_late_or_never(vespa: Vespa) -> None:
    url = f"{vespa.config_url}{INSTANCE}/serviceconverge"
    vespa.faults.add(Fault("slow-convergence", delay=3600, count=1))
    vespa.deploy(changed("schemas/note.sd", "field text", "field words"))
    async with httpx.AsyncClient() as client:
        content = (await client.get(url)).json()
        assert content["converged"] is False
        assert content["currentGeneration"] < content["wantedGeneration"]
        path = f"{vespa.container_urls[0]}/document/v1/n/note/docid/1"
        answer = await client.post(path, json={"fields": {"words": "x"}})
        assert answer.status_code == 400, "the containers still run the application before"
        vespa.deploy(changed("schemas/note.sd", "field text", "field words"))
        assert (await client.post(path, json={"fields": {"words": "x"}})).status_code == 200
        failed = vespa.faults.add(Fault("failed-service", message="out of memory"))
        content = (await client.get(url)).json()
        assert content["converged"] is False
        assert content["config"]["status"] == "failed"
        assert content["config"]["message"] == "out of memory"
        assert content["services"][0]["config"]["status"] == "failed"
        vespa.faults.remove(failed)
        assert (await client.get(url)).json()["converged"] is True
