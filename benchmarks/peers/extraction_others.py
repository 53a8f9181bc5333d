"""The texts of files by second readers: ``extraction_others.py FOLDER`` prints ``{reader: {name: text}}`` as JSON."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import docx2txt
import trafilatura
from bs4 import BeautifulSoup
from pypdf import PdfReader
from python_calamine import CalamineWorkbook


def pdf(content: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def workbook(content: bytes) -> str:
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    sheets = (book.get_sheet_by_name(name).to_python() for name in book.sheet_names)
    return "\n".join(str(cell) for rows in sheets for row in rows for cell in row)


def all_text_nodes(content: bytes) -> str:
    """Everything between tags, in all parts of an archive that are XML."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [name for name in archive.namelist() if name.endswith((".xml", ".xhtml"))]
        return "\n".join(
            "\n".join(ElementTree.fromstring(archive.read(name)).itertext()) for name in parts
        )


def page(content: bytes) -> str:
    tree = BeautifulSoup(content, "lxml")
    for element in tree(["script", "style", "title"]):
        element.decompose()
    return tree.get_text("\n")


def article(content: bytes) -> str:
    return trafilatura.extract(content) or ""


READERS: dict[str, dict[str, Callable[[bytes], str]]] = {
    ".pdf": {"pypdf": pdf},
    ".docx": {"docx2txt": lambda content: docx2txt.process(io.BytesIO(content))},
    ".pptx": {"all text nodes": all_text_nodes},
    ".xlsx": {"calamine": workbook},
    ".ods": {"calamine": workbook},
    ".odt": {"all text nodes": all_text_nodes},
    ".epub": {"all text nodes": all_text_nodes},
    ".html": {"beautifulsoup4": page, "trafilatura": article},
}


def main(folder: Path) -> None:
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.iterdir()):
        for name, read in READERS.get(path.suffix, {}).items():
            found.setdefault(name, {})[path.name] = read(path.read_bytes())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
