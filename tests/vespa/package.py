"""Application packages: the archive, services.xml, hosts.xml, validation-overrides.xml, schemas."""

from __future__ import annotations

import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from datetime import date
from pathlib import PurePosixPath
from xml.etree import ElementTree

from tests.vespa import query_profiles
from tests.vespa.expressions import ExpressionError
from tests.vespa.model import Application, Override, QueryProfile, Schema
from tests.vespa.rank_checks import check_rank_profiles
from tests.vespa.schema import parse_schema
from tests.vespa.schema_text import SchemaError
from tests.vespa.services import Services, read_services

FILES_MAX = 10_000
BYTES_MAX = 512 * 1024 * 1024
"""Bytes of a package, decompressed."""


class PackageError(ValueError):
    """A package is refused; *code* is the error code of the answer."""

    def __init__(self, message: str, code: str = "INVALID_APPLICATION_PACKAGE") -> None:
        super().__init__(message)
        self.code = code


def read_archive(body: bytes, content_type: str) -> dict[str, bytes]:
    """Unpack a zip or tar.gz file; *content_type* says which.

    Raises:
        PackageError: the type is not known, the archive is broken or a name in it leads outside.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        if media_type == "application/zip":
            files = _unzip(body)
        elif media_type in ("application/x-gzip", "application/gzip"):
            files = _untar(body)
        else:
            raise PackageError(
                f"Unsupported content type: '{content_type}'. Must be either of "
                "application/x-gzip, application/zip",
                "BAD_REQUEST",
            )
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise PackageError(
            f"Unable to create compressed application stream: {error}", "BAD_REQUEST"
        ) from error
    for name in files:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise PackageError(f"File '{name}' is outside of the package", "BAD_REQUEST")
    return _without_folder(files)


def _unzip(body: bytes) -> dict[str, bytes]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(body))
    except zipfile.BadZipFile:
        return {}  # it is read as a stream there, and what is cut has no files
    with archive:
        entries = [each for each in archive.infolist() if not each.is_dir()]
        if len(entries) > FILES_MAX or sum(each.file_size for each in entries) > BYTES_MAX:
            raise PackageError("The package is too large", "BAD_REQUEST")
        if any(stat.S_ISLNK(each.external_attr >> 16) for each in entries):
            raise PackageError("The package has symbolic links", "BAD_REQUEST")
        return {each.filename: archive.read(each) for each in entries}


def _untar(body: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as archive:
        for member in archive:
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or len(files) == FILES_MAX or member.size > BYTES_MAX:
                raise PackageError(f"'{member.name}' is no file, or too large", "BAD_REQUEST")
            files[member.name.removeprefix("./")] = content.read()
    return files


def _without_folder(files: dict[str, bytes]) -> dict[str, bytes]:
    """A package may lie in one folder of the archive, ``application``."""
    if files and "services.xml" not in files:
        folder = "application/"
        if all(name.startswith(folder) for name in files):
            return {name.removeprefix(folder): content for name, content in files.items()}
    return files


def build_application(
    files: Mapping[str, bytes], *, session_id: int, today: date, max_days: int = 30
) -> Application:
    """Read a package and check it as a whole.

    Raises:
        PackageError: with the message and code of the answer.
    """
    if "services.xml" not in files:
        raise PackageError(
            f"Error preprocessing application package for default.default.default, session id {session_id}: "
            "services.xml does not exist in application package. "
            # The server writes a file of its own beside them.
            f"There are {len({name.split('/')[0] for name in files}) + 1} files in the directory",
            "BAD_REQUEST",
        )
    hosts = _hosts(files.get("hosts.xml"))
    try:
        services = read_services(_xml("services.xml", files["services.xml"]), hosts)
    except ValueError as error:
        if isinstance(error, PackageError):
            raise
        raise PackageError(f"Invalid application package: {error}") from error
    schemas = _schemas(files)
    _check_types(services, schemas)
    return Application(
        files=dict(files),
        schemas=schemas,
        content=services.content,
        containers=services.containers,
        hosts=hosts,
        query_profiles=_query_profiles(files),
        overrides=_overrides(files.get("validation-overrides.xml"), today, max_days),
    )


def _xml(name: str, content: bytes) -> ElementTree.Element:
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise PackageError(f"Invalid application package: {name} has a document type")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise PackageError(
            f"Invalid application package: Invalid XML in {name}: {error}"
        ) from error


def _hosts(content: bytes | None) -> dict[str, str]:
    if content is None:
        return {}
    root = _xml("hosts.xml", content)
    if root.tag != "hosts":
        raise PackageError("Invalid application package: hosts.xml has no 'hosts'")
    hosts: dict[str, str] = {}
    for host in root:
        name = host.get("name")
        aliases = [(each.text or "").strip() for each in host.findall("alias")]
        if host.tag != "host" or not name or not aliases or not all(aliases):
            raise PackageError(
                "Invalid application package: hosts.xml: a host needs a name and an alias"
            )
        for alias in aliases:
            if alias in hosts:
                raise PackageError(f"Invalid application package: hosts.xml: alias '{alias}' twice")
            hosts[alias] = name
    return hosts


def _schemas(files: Mapping[str, bytes]) -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for name, content in sorted(files.items()):
        if not name.startswith(("schemas/", "searchdefinitions/")):
            continue
        if not re.fullmatch(r"(schemas|searchdefinitions)/[^/]+\.sd", name):
            raise PackageError(f"Invalid application: '{name}' is not supported")
        try:
            schema = parse_schema(content.decode())
            check_rank_profiles(schema)
        except (SchemaError, ExpressionError, UnicodeDecodeError) as error:
            raise PackageError(
                f"Invalid application: Failed parsing schema from '{name}': {error}"
            ) from error
        if PurePosixPath(name).stem != schema.name:
            raise PackageError(
                f"Invalid application: The file containing schema '{schema.name}' must be named '{schema.name}.sd', was '{PurePosixPath(name).name}'"
            )
        schemas[schema.name] = schema
    return schemas


def _query_profiles(files: Mapping[str, bytes]) -> dict[str, QueryProfile]:
    profiles: dict[str, QueryProfile] = {}
    for path, content in sorted(files.items()):
        if path.startswith(query_profiles.FOLDER):
            try:
                profile = query_profiles.read_profile(path, _xml(path, content))
            except ValueError as error:
                raise PackageError(f"Invalid application: {error}") from error
            profiles[profile.name] = profile
    return query_profiles.with_default(profiles)


def _check_types(services: Services, schemas: Mapping[str, Schema]) -> None:
    used: set[str] = set()
    for cluster in services.content:
        for name in cluster.document_types:
            if name not in schemas:
                raise PackageError(
                    f"Invalid application: Document type '{name}' of content cluster '{cluster.id}' has no schema"
                )
            if name in used:
                raise PackageError(
                    f"Invalid application: Document type '{name}' is in two clusters"
                )
            used.add(name)


def _overrides(content: bytes | None, today: date, max_days: int) -> tuple[Override, ...]:
    if content is None:
        return ()
    root = _xml("validation-overrides.xml", content)
    found: list[Override] = []
    for allow in root:
        until, name = allow.get("until", ""), (allow.text or "").strip()
        if root.tag != "validation-overrides" or allow.tag != "allow" or not name:
            raise PackageError("validation-overrides is invalid: expected 'allow' elements")
        try:
            day = date.fromisoformat(until)
        except ValueError as error:
            raise PackageError(
                f"validation-overrides is invalid: '{until}' of '{name}' is no date (yyyy-mm-dd)"
            ) from error
        if (day - today).days > max_days:
            raise PackageError(
                f"validation-overrides is invalid: validation override '{name}' until '{until}' "
                f"is too far in the future: Max {max_days} days is allowed"
            )
        found.append(Override(name, until))
    return tuple(found)
