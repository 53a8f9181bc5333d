"""Golden cases: application packages, which are taken and which refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.contract.vespa.endpoint import DEPLOY, Endpoint
from tests.vespa import Vespa
from tests.vespa.example import changed, example_files, tarred, zipped

TENANT = "/application/v2/tenant/default"
ZIP = {"content-type": "application/zip"}


@pytest.mark.parametrize("kind", ["tar", "multipart", "chunked"])
async def test_forms_of_a_package(endpoint: Endpoint, kind: str) -> None:
    url, client = endpoint.config_url + DEPLOY, endpoint.client
    files = example_files()
    if kind == "tar":
        answer = await client.post(
            url, content=tarred(files), headers={"content-type": "application/x-gzip"}
        )
    elif kind == "multipart":
        parts = {
            "prepareParams": ("params", json.dumps({"timeout": 10}), "application/json"),
            "applicationPackage": ("package", zipped(files), "application/zip"),
        }
        answer = await client.post(url, files=parts)
    else:
        body = zipped(files)

        async def parts_of_body() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 100):
                yield body[at : at + 100]

        answer = await client.post(url, content=parts_of_body(), headers=ZIP)
    assert answer.status_code == 200, answer.text
    assert answer.json()["activated"] is True


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (zipped({}), "application/zip", "BAD_REQUEST"),
        (zipped({"a": b"a"}), "application/zip", "BAD_REQUEST"),
        (zipped(example_files())[:-30], "application/zip", "BAD_REQUEST"),
        (tarred(example_files())[:-30], "application/x-gzip", "BAD_REQUEST"),
        (zipped(example_files()), "text/plain", "BAD_REQUEST"),
    ],
    ids=["empty", "no services", "cut zip", "cut tar", "wrong type"],
)
async def test_what_is_no_package(
    endpoint: Endpoint, body: bytes, content_type: str, code: str
) -> None:
    answer = await endpoint.client.post(
        endpoint.config_url + DEPLOY, content=body, headers={"content-type": content_type}
    )
    assert answer.status_code == 400
    assert set(answer.json()) == {"error-code", "message"}
    assert answer.json()["error-code"] == code
    if content_type == "application/zip":
        assert answer.json()["message"].startswith(
            "Error preprocessing application package for default.default.default, session id "
        )
        assert "services.xml does not exist in application package" in answer.json()["message"]


BROKEN: dict[str, Callable[[], dict[str, bytes]]] = {
    "services is no XML": lambda: changed("services.xml", "</services>", ""),
    "services with a typing error": lambda: changed("services.xml", "<search/>", "<serach/>"),
    "a type without a schema": lambda: changed("services.xml", 'type="note"', 'type="nothing"'),
    "no distribution key": lambda: changed("services.xml", ' distribution-key="0"', ""),
    "an unclosed brace": lambda: changed("schemas/note.sd", "| index }", "| index"),
    "an unknown setting": lambda: changed("schemas/note.sd", "indexing:", "indexes:"),
    "an unknown type of field": lambda: changed("schemas/doc.sd", "year type int", "year type integer"),
    "a field twice": lambda: changed("schemas/doc.sd", "field price", "field year"),
    "an unknown field in a fieldset": lambda: changed("schemas/doc.sd", "fields: title,", "fields: titel,"),
    "an unknown field in a summary": lambda: changed("schemas/doc.sd", "summary doc_id", "summary docid"),
    "an unknown feature": lambda: changed("schemas/doc.sd", "2 * bm25(title) + bm25(chunks)", "bm26(title)"),
    "an unknown field in a feature": lambda: changed("schemas/doc.sd", "bm25(title) + bm25(chunks)", "bm25(titel)"),
    "an unknown profile": lambda: changed("schemas/doc.sd", "hybrid inherits default", "hybrid inherits bm26"),
    "fusion in the first phase": lambda: changed("schemas/doc.sd", "closeness(field, embedding) + 0.02", "reciprocal_rank(lexical) + 0.02"),
    "the file has another name": lambda: {**example_files(), "schemas/other.sd": example_files()["schemas/note.sd"]},
    "hnsw without an attribute": lambda: changed("schemas/doc.sd", "indexing: attribute | index\n", "indexing: index\n"),
    "bm25 without an index": lambda: changed("schemas/doc.sd", "indexing: summary | index\n", "indexing: summary\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_a_wrong_package_is_refused(endpoint: Endpoint, case: str) -> None:
    before = (
        await endpoint.client.get(f"{endpoint.config_url}{TENANT}/application/default")
    ).json()
    answer = await endpoint.deploy(BROKEN[case]())
    assert answer.status_code == 400, case
    assert answer.json()["error-code"] == "INVALID_APPLICATION_PACKAGE"
    assert answer.json()["message"].startswith(
        ("Invalid application package: ", "Invalid application: ")
    )
    after = (await endpoint.client.get(f"{endpoint.config_url}{TENANT}/application/default")).json()
    assert after["generation"] == before["generation"]


async def test_a_package_may_not_lead_outside(vespa: Vespa) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../services.xml", b"<services/>")
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            vespa.config_url + DEPLOY, content=buffer.getvalue(), headers=ZIP
        )
    assert (answer.status_code, answer.json()["error-code"]) == (400, "BAD_REQUEST")


async def test_undefined_fields_may_be_ignored(vespa: Vespa) -> None:
    ignoring = (
        "<document-api><ignore-undefined-fields>true</ignore-undefined-fields></document-api>"
    )
    vespa.deploy(changed("services.xml", "<document-api/>", ignoring))
    url = f"{vespa.container_urls[0]}/document/v1/n/doc/docid/1"
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json={"fields": {"year": 1, "nothing": 2}})
        assert answer.status_code == 200
        assert answer.headers["x-vespa-ignored-fields"] == "true"
        assert (await client.get(url)).json()["fields"] == {"year": 1}
        answer = await client.post(url, json={"fields": {"year": 1}})
        assert "x-vespa-ignored-fields" not in answer.headers


async def test_hosts_and_groups(vespa: Vespa) -> None:
    hosts = "".join(
        f"<host name='{name}.example.net'><alias>{name}</alias></host>" for name in ("a", "b")
    )
    groups = "".join(
        f"<group name='g{key}' distribution-key='{key}'>"
        f"<node hostalias='{alias}' distribution-key='{key}'/></group>"
        for key, alias in enumerate("ab")
    )
    old = '<nodes><node hostalias="node1" distribution-key="0"/></nodes>'
    new = f"<group name='all'><distribution partitions='1|*'/>{groups}</group>"
    files = changed("services.xml", old, new)
    files["services.xml"] = files["services.xml"].replace(b'hostalias="node1"', b'hostalias="b"')
    files["hosts.xml"] = f"<hosts>{hosts}</hosts>".encode()
    vespa.deploy(files)
    assert vespa.application is not None
    (cluster,) = vespa.application.content
    assert cluster.groups == ((0,), (1,))
    assert [node.host for node in cluster.nodes] == ["a.example.net", "b.example.net"]
    assert vespa.application.containers[0].hosts == ("b.example.net",)
    files["hosts.xml"] = files["hosts.xml"].replace(b"<alias>a</alias>", b"<alias>c</alias>")
    with pytest.raises(ValueError, match="Alias 'a' is not found"):
        vespa.deploy(files)
