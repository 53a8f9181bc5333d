"""ZIP files of office documents and books, opened only when what they unpack to is bounded.

The directory is believed for nothing but refusals: parts that overlap, too many of them, or too much text behind
them. The standard library never unpacks more of a part than its directory declares, so the sum declared bounds
what reading all of them can take.
"""

from __future__ import annotations

import zipfile
from io import BytesIO

from sercha.errors import ItemFailed

PARTS_MAX = 20_000
UNPACKED_BYTES_MAX = 200 * 1024**2

_ENCRYPTED_FLAG = 1


def open_archive(content: bytes) -> zipfile.ZipFile:
    """Open a ZIP from memory.

    Raises:
        ItemFailed: ``too-large`` or ``encrypted`` (skips), or ``broken``.
    """
    try:
        archive = zipfile.ZipFile(BytesIO(content))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        # NotImplementedError is what zipfile raises for a version of the format that it does not know.
        raise ItemFailed("Its archive is damaged.", code="broken") from error
    parts = archive.infolist()
    if len(parts) > PARTS_MAX:
        raise ItemFailed(
            f"It holds {len(parts)} parts; at most {PARTS_MAX} are unpacked.",
            code="too-large",
            is_skip=True,
        )
    unpacked = sum(part.file_size for part in parts)
    if unpacked > UNPACKED_BYTES_MAX:
        raise ItemFailed(
            f"It unpacks to {unpacked} bytes; at most {UNPACKED_BYTES_MAX} are unpacked.",
            code="too-large",
            is_skip=True,
        )
    if any(part.flag_bits & _ENCRYPTED_FLAG for part in parts):
        raise ItemFailed("It is protected by a password.", code="encrypted", is_skip=True)
    end = 0
    for part in sorted(parts, key=lambda part: part.header_offset):
        if part.header_offset < end:
            raise ItemFailed("The parts of its archive overlap.", code="broken")
        end = part.header_offset + part.compress_size
    return archive


def read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a part's bytes.

    Raises:
        ItemFailed: ``broken``: there is no such part.
    """
    try:
        return archive.read(name)
    except KeyError as error:
        raise ItemFailed(f"It has no part {name[:100]!r}.", code="broken") from error
