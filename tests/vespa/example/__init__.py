"""A small application package for tests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parent


def example_files() -> dict[str, bytes]:
    """The files of the package, by their names in it."""
    names = ["services.xml", "schemas/doc.sd", "schemas/note.sd"]
    return {name: (ROOT / name).read_bytes() for name in names}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The package as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    """The package as a tar.gz file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def changed(name: str, old: str, new: str) -> dict[str, bytes]:
    """The example with a change in one file."""
    files = example_files()
    assert old.encode() in files[name]
    return {**files, name: files[name].replace(old.encode(), new.encode())}


def override(*validation_ids: str, days: int) -> dict[str, bytes]:
    """A file that allows changes until the day in so many days."""
    until = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
    allowed = "".join(f"<allow until='{until}'>{each}</allow>" for each in validation_ids)
    text = f"<validation-overrides>{allowed}</validation-overrides>"
    return {"validation-overrides.xml": text.encode()}
