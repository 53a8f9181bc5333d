"""How much of documents is read, beside a second library: ``python benchmarks/extraction.py [files per format]``.

Documents are made by the formats' own writers from paragraphs of Sercha's documentation, so that their words are known;
pages are those of the machine, whose words are those that a second reader finds: all of them, or the article. *recall* is the share of the known
words, each as often as it is there, that a reader finds. Characters are counted without white space.
"""

from __future__ import annotations

import json
import random
import re
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.shared_rig.environments import make_environment
from sercha.adapters.parsing.kinds import Kind, find_kind
from tests.support import documents

PEERS = Path(__file__).parent / "peers"
DOCS = Path(__file__).parents[1] / "docs"
SEED = 7
PAGE_BYTES_MIN, PAGE_BYTES_MAX = 4_000, 300_000
SECOND_READERS = ("beautifulsoup4", "trafilatura")

Texts = dict[str, str]


def paragraphs() -> list[str]:
    """Return paragraphs of prose; only characters that every writer can write."""
    found: list[str] = []
    for page in sorted(DOCS.rglob("*.md")):
        for block in re.split(r"\n\s*\n", page.read_text("utf-8")):
            text = " ".join(re.sub(r"[`*#|\[\]]", " ", block).split())
            if len(text) > 80 and text.isascii():
                found.append(text)
    return found


WRITERS: dict[str, Callable[[list[str]], bytes]] = {
    "pdf": documents.make_pdf,
    "docx": lambda texts: documents.make_docx([("", text) for text in texts], [texts[:2]]),
    "pptx": lambda texts: documents.make_pptx([("Slide", text, "") for text in texts]),
    "xlsx": lambda texts: documents.make_xlsx({"S": [[text, "x"] for text in texts]}),
    "ods": lambda texts: documents.make_ods({"S": [[text, "x"] for text in texts]}),
    "odt": lambda texts: documents.make_odt([(0, text) for text in texts]),
    "epub": lambda texts: documents.make_epub(
        [f"<p>{text.replace('<', ' ')}</p>" for text in texts]
    ),
    "rtf": lambda texts: documents.make_rtf(
        "\n".join(re.sub(r"[{}\\]", " ", text) for text in texts)
    ),
    "eml": lambda texts: documents.make_eml("\n\n".join(texts)),
    "ipynb": lambda texts: documents.make_notebook([("markdown", text, "") for text in texts]),
}


def write_all(folder: Path, count: int) -> Texts:
    """Write documents; return what was written, by name."""
    rng, source, written = random.Random(SEED), paragraphs(), Texts()
    for suffix, write in WRITERS.items():
        for number in range(count):
            texts = rng.sample(source, 8)
            name = f"{number}.{suffix}"
            (folder / name).write_bytes(write(texts))
            written[name] = "\n".join(texts)
    for number, content in enumerate(islice(pages(rng), count)):
        (folder / f"{number}.html").write_bytes(content)
    return written


def pages(rng: random.Random) -> Iterator[bytes]:
    """Give pages of this machine that have text, in any order."""
    places = (Path(sysconfig.get_path("purelib")), Path(sys.base_prefix), Path("/usr/share"))
    paths = sorted({path for place in places for path in place.rglob("*.html") if path.is_file()})
    for path in rng.sample(paths, len(paths)):
        if PAGE_BYTES_MIN < path.stat().st_size < PAGE_BYTES_MAX:
            content = path.read_bytes()
            if find_kind(str(path), content) is Kind.HTML and b"{{" not in content:
                yield content


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z0-9]{2,}", text.lower()))


def recall(known: str, found: str) -> float:
    """Return the share of the known words that were found."""
    wanted = words(known)
    return (wanted & words(found)).total() / max(1, wanted.total())


def report(title: str, known: Texts, readers: dict[str, Texts]) -> None:
    for reader, texts in readers.items():
        names = [name for name in known if name in texts]
        if names:
            shares = sorted(recall(known[name], texts[name]) for name in names)
            characters = sum(len("".join(texts[name].split())) for name in names)
            print(
                f"| {title} | {len(names)} | {reader} | {characters:,} | {sum(shares) / len(shares):.4f} "
                f"| {shares[0]:.4f} |"
            )


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()
        written = write_all(folder, count)
        ours = {
            path.name: documents.parse(path.name, path.read_bytes()).text
            for path in folder.iterdir()
        }
        python = await make_environment(Path(place) / "peers", PEERS / "extraction.txt")
        done = await trio.run_process(
            [python, PEERS / "extraction_others.py", folder], capture_stdout=True
        )
    others: dict[str, Texts] = json.loads(done.stdout)
    print(
        "| format | files | reader | characters | recall, mean | recall, worst |\n|---|--:|---|--:|--:|--:|"
    )
    for suffix in WRITERS:
        known = {name: text for name, text in written.items() if name.endswith(f".{suffix}")}
        report(suffix, known, {"Sercha": ours, **others})
    for known in SECOND_READERS:
        report(f"html, as {known} reads it", others[known], {"Sercha": ours, **others})


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 30)
