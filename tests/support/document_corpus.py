"""Documents of fourteen formats with random contents: in each part a word that is nowhere else, and where it is.

Parts are what a hit names beside the document: pages, slides, sheets, sections under headings. The contents are in
several scripts, and texts in the charsets that people write these in.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from tests.support import documents

PART_CHARS_MIN = 300
"""So that each section has a chunk of its own."""


@dataclass(frozen=True, slots=True)
class Script:
    """What texts in one script are made of, and the charsets that can hold them besides UTF-8."""

    words: str
    syllables: str
    charsets: tuple[str, ...]
    space: str = " "
    stop: str = ". "

    def text(self, rng: random.Random, chars_min: int) -> str:
        """Return sentences."""
        known, text = self.words.split(), ""
        while len(text) < chars_min:
            chosen = rng.choices(known, k=rng.randint(5, 14))
            text += self.space.join(chosen).capitalize() + self.stop
        return text.strip()

    def word(self, rng: random.Random) -> str:
        """Return a word that nobody has written before, nor will."""
        return "".join(rng.choices(self.syllables.split(), k=10))


SCRIPTS = {
    "english": Script(
        "tea water winter leaf brew steam cup kettle harvest green oolong minutes never boil the of and with",
        "ba de fi go lu ma ne pi ro su ta ve wi zo ka",
        ("ascii",),
    ),
    "german": Script(
        "Tee Wasser Blätter Grüße über größer schön Kännchen während Gefäß der die und mit nicht wärmer",
        "bä de fü gö lu mä ne pi rö su ta vü wi zo ka",
        ("cp1252", "iso-8859-1"),
    ),
    "russian": Script(
        "чай вода зима лист чашка урожай зелёный минуты никогда кипит и с над самовар",
        "ба де фи го лу ма не пи ро су та ве зо ка",
        ("koi8-r", "cp1251"),
    ),
    "greek": Script(
        "τσάι νερό χειμώνας φύλλο φλιτζάνι συγκομιδή πράσινο λεπτά ποτέ βράζει και με το",
        "βα δε φι γο λυ μα νε πι ρο συ τα ζο κα",
        ("iso-8859-7", "cp1253"),
    ),
    "japanese": Script(
        "お茶は 冬の朝に 静かに 飲む 水を 沸かして 葉を 入れる 三分 待つ 緑色の 茶碗",
        "カ キ サ テ ナ ニ フ ホ マ ミ ヤ ル レ ワ",
        ("shift_jis", "euc-jp"),
        "",
        "。",
    ),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A page, slide, sheet or section, with the word that only it has."""

    title: str
    text: str
    word: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A document, and what a hit on each of its words must name as the place."""

    name: str
    content: bytes
    places: dict[str, str]


@dataclass(frozen=True, slots=True)
class Format:
    """How documents of one format are written, and how their parts are named."""

    write: Callable[[Sequence[Part], random.Random, Script], bytes]
    place: Callable[[Sequence[Part], int], str]
    scripts: tuple[str, ...] = tuple(SCRIPTS)


def corpus(seed: int, count: int) -> Iterator[Sample]:
    """Give *count* documents of each format."""
    rng = random.Random(seed)
    for suffix, form in FORMATS.items():
        for number in range(count):
            script = SCRIPTS[form.scripts[number % len(form.scripts)]]
            parts = [_part(rng, script, index) for index in range(rng.randint(2, 3))]
            content = form.write(parts, rng, script)
            places = {part.word: form.place(parts, index) for index, part in enumerate(parts)}
            yield Sample(f"{number:02}.{suffix}", content, places)


def _part(rng: random.Random, script: Script, index: int) -> Part:
    word = script.word(rng)
    halves = [script.text(rng, PART_CHARS_MIN // 2) for _ in range(2)]
    text = f"{halves[0]} {word}{script.stop.rstrip()} {halves[1]}"
    return Part(f"Part {index + 1} {script.word(rng)}", text, word)


def _encoded(text: str, rng: random.Random, script: Script, declare: str) -> bytes:
    """Write *text* in Unicode, or in an older charset that a first line made by *declare* names."""
    charset = rng.choice(("utf-8", "utf-8-sig", "utf-16", *(script.charsets if declare else ())))
    if charset in script.charsets:
        text = declare.format(charset) + text
    return text.encode(charset)


def _html(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    body = "".join(
        f"<h2>{escape(part.title)}</h2><p>{escape(part.text)}</p>"
        f"<table><tr><th>{rng.random()}<td>{escape(script.text(rng, 20))}</table>"
        for part in parts
    )
    charset = rng.choice(("utf-8", *script.charsets))
    head = f"<!doctype html><head><meta charset={charset}><title>Tea</title></head>"
    page = f"{head}<body><nav>Menu</nav><main><h1>Tea</h1>{body}</main></body>"
    return page.encode(charset, "xmlcharrefreplace")


def _docx(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    blocks = [("Heading 1", "Tea")]
    for part in parts:
        blocks += [("Heading 2", part.title), ("", part.text)]
    return documents.make_docx(blocks, [[script.text(rng, 20), "x"] for _ in range(3)])


def _odt(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    blocks = [(1, "Tea")]
    for part in parts:
        blocks += [(2, part.title), (0, part.text), (0, script.text(rng, 20))]
    return documents.make_odt(blocks)


def _sheets(parts: Sequence[Part], rng: random.Random) -> dict[str, list[list[str]]]:
    """Return a sheet for each part, its text in cells, with numbers beside it."""
    return {
        part.title: [[f"{rng.random():.3f}", sentence] for sentence in part.text.split(". ")]
        for part in parts
    }


def _rtf(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    return documents.make_rtf("\n".join(f"{part.title}\n{part.text}" for part in parts))


def _epub(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    return documents.make_epub(
        [f"<h1>{escape(part.title)}</h1><p>{escape(part.text)}</p>" for part in parts]
    )


def _eml(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    text = "\n\n".join(f"{part.title}\n\n{part.text}" for part in parts)
    charset = rng.choice(("utf-8", *script.charsets))
    transfer = rng.choice(("base64", "quoted-printable"))
    if rng.random() < 0.5:
        return documents.make_eml(text, charset=charset, transfer=transfer)
    page = "".join(f"<p>{escape(part.title)}</p><p>{escape(part.text)}</p>" for part in parts)
    return documents.make_eml("", html=page, charset=charset, transfer=transfer)


def _csv(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=rng.choice(",;\t"))
    writer.writerow(["plant", "note"])
    for part in parts:
        writer.writerows([part.title, sentence] for sentence in part.text.split(". "))
    return _encoded(stream.getvalue(), rng, script, "")


def _json(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    rows = [{"name": part.title, "notes": [part.text]} for part in parts]
    indent = rng.choice((None, 2))
    return json.dumps({"rows": rows}, indent=indent, ensure_ascii=rng.random() < 0.5).encode()


def _notebook(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    cells = [("markdown", "# Tea", "")]
    for part in parts:
        if rng.random() < 0.5:
            cells.append(("markdown", f"## {part.title}\n\n{part.text}", ""))
        else:
            cells += [("markdown", f"## {part.title}", ""), ("code", "show()", part.text)]
    return documents.make_notebook(cells)


def _markdown(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    text = "# Tea\n\n" + "\n".join(f"## {part.title}\n\n{part.text}\n" for part in parts)
    return _encoded(text, rng, script, "")


def _plain(parts: Sequence[Part], rng: random.Random, script: Script) -> bytes:
    text = "\r\n".join(f"{part.title}\r\n\r\n{part.text}\r\n" for part in parts)
    return _encoded(text, rng, script, "coding: {}\n\n")


def _below_tea(parts: Sequence[Part], index: int) -> str:
    return f"Tea > {parts[index].title}"


def _nowhere(parts: Sequence[Part], index: int) -> str:
    return ""


FORMATS: dict[str, Format] = {
    "html": Format(_html, _below_tea),
    "pdf": Format(
        lambda parts, rng, script: documents.make_pdf(
            [part.text for part in parts], bookmarks=True
        ),
        lambda parts, index: f"Chapter {index + 1} > page {index + 1}",
        ("english", "german"),  # the fonts that every PDF has know no other scripts
    ),
    "docx": Format(_docx, _below_tea),
    "pptx": Format(
        lambda parts, rng, script: documents.make_pptx(
            [(part.title, script.text(rng, 40), part.text) for part in parts]
        ),
        lambda parts, index: f"slide {index + 1}",
    ),
    "xlsx": Format(
        lambda parts, rng, script: documents.make_xlsx(_sheets(parts, rng)),
        lambda parts, index: f"sheet {parts[index].title}",
    ),
    "odt": Format(_odt, _below_tea),
    "ods": Format(
        lambda parts, rng, script: documents.make_ods(_sheets(parts, rng)),
        lambda parts, index: f"sheet {parts[index].title}",
    ),
    "odp": Format(
        lambda parts, rng, script: documents.make_odp([part.text for part in parts]),
        lambda parts, index: f"slide {index + 1}",
    ),
    "rtf": Format(_rtf, _nowhere),
    "epub": Format(_epub, lambda parts, index: parts[index].title),
    "eml": Format(_eml, _nowhere),
    "csv": Format(_csv, lambda parts, index: "plant, note"),
    "json": Format(_json, _nowhere),
    "ipynb": Format(_notebook, _below_tea),
    "md": Format(_markdown, _below_tea),
    "txt": Format(_plain, _nowhere),
}
