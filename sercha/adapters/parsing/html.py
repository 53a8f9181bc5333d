"""HTML, by lexbor: what a reader of the page reads, without menus, scripts and footers.

What surrounds the text of a page is found by its elements and roles, never by how dense its words are: a page is
never left without its text, because a rule that would take most of it is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from selectolax.lexbor import LexborHTMLParser, LexborNode

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.charset import decode
from sercha.adapters.parsing.mime import text_type
from sercha.domain.document import ExtractedText

MIME_TYPE = "text/html"

_PARAGRAPH, _LINE = 0, -1
_Block = tuple[str, int]
"""A block's text, and what it is: a heading of this level, a paragraph, or a line such as a row of a table."""

_NEVER_TEXT = frozenset(
    {
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "annotation",
        "iframe",
        "object",
        "select",
        "head",
    }
)
_BOILERPLATE = (
    "nav, footer, aside, dialog, [role=navigation], [role=banner], [role=contentinfo], [role=search], "
    "[role=menu], [hidden], [aria-hidden=true], a.headerlink, body > header"
)
_MAIN = "main, [role=main], article"
_KEPT_MIN = 0.3
"""Boilerplate is left in when less than this share of the page's text would stay."""
_PARAGRAPHS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "details",
        "dialog",
        "div",
        "dl",
        "fieldset",
    }
    | {
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "html",
        "main",
        "menu",
        "nav",
    }
    | {"ol", "p", "pre", "section", "table", "ul"}
)
_LINES = frozenset(
    {
        "caption",
        "dd",
        "dt",
        "figcaption",
        "legend",
        "li",
        "summary",
        "tbody",
        "tfoot",
        "thead",
        "tr",
    }
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_MARKS = {"br": "\n", "hr": "\n", "td": "\t", "th": "\t"}
_SPACES = re.compile(r"\s+")
_META = {
    "author": "author",
    "article:author": "author",
    "dc.creator": "author",
    "article:published_time": "created",
    "dc.date": "created",
    "date": "created",
    "article:modified_time": "modified",
    "last-modified": "modified",
}


def parse(job: Job) -> ExtractedText:
    """Read a page; never fails."""
    markup, charset = decode(job.content)
    facts, builder = Facts(), TextBuilder(job.chars_max)
    with suppress(Full):
        add_page(markup, builder, facts)
    mime_type = text_type(job.path)
    return builder.finish(mime_type if "html" in mime_type else MIME_TYPE, facts, charset)


def add_page(
    markup: str, builder: TextBuilder, facts: Facts, *, has_boilerplate: bool = True
) -> None:
    """Append a page's text to *builder*, with its headings as sections, and note what it says of itself."""
    tree = LexborHTMLParser(markup)
    _note(tree, facts)
    body = tree.body or tree.root
    if body is None:
        return
    blocks = list(_blocks(body, set()))
    if has_boilerplate:
        blocks = _without_boilerplate(tree, body, blocks)
    for text, kind in blocks:
        if kind > _PARAGRAPH:
            builder.heading(text, kind)
        elif kind == _PARAGRAPH:
            builder.paragraph(text)
        else:
            builder.line(text)


def _note(tree: LexborHTMLParser, facts: Facts) -> None:
    root = tree.root
    title = tree.css_first("head > title") or tree.css_first("title")
    if title is not None:
        facts.name(title.text())
    if root is not None:
        facts.note("language", root.attributes.get("lang"))
    for node in tree.css("meta[content]")[:200]:
        name = (node.attributes.get("name") or node.attributes.get("property") or "").lower()
        if name in _META:
            facts.note(_META[name], node.attributes.get("content"))
    heading = tree.css_first("h1")
    if heading is not None:
        facts.name(heading.text())


def _without_boilerplate(
    tree: LexborHTMLParser, body: LexborNode, blocks: list[_Block]
) -> list[_Block]:
    """Leave out what surrounds the text, unless too little would stay."""
    needed = _KEPT_MIN * _ink(blocks)
    skipped = {node.mem_id for node in tree.css(_BOILERPLATE)}
    for root in (*tree.css(_MAIN)[:1], body):
        kept = list(_blocks(root, skipped))
        if _ink(kept) >= needed:
            return kept
    return blocks


def _ink(blocks: list[_Block]) -> int:
    return sum(len(_SPACES.sub("", text)) for text, _ in blocks)


def _blocks(root: LexborNode, skipped: set[int]) -> Iterator[_Block]:
    """Walk the tree without recursion, however deep it is, and give the text of each block."""
    pieces: list[str] = []
    above: list[tuple[LexborNode, int | None]] = []
    kinds = [_PARAGRAPH]
    preformatted = 0
    node = root.first_child
    while node is not None:
        tag = node.tag or ""
        child: LexborNode | None = None
        if tag == "-text":
            text = node.text_content or ""
            pieces.append(text if preformatted else _SPACES.sub(" ", text))
        elif tag not in _NEVER_TEXT and node.mem_id not in skipped:
            pieces.append(_MARKS.get(tag, ""))
            child = node.first_child
        if child is not None:
            kind = _kind(tag, kinds[-1])
            if kind is not None:
                yield from _flush(pieces, kinds[-1])
                kinds.append(kind)
                preformatted += tag == "pre"
            above.append((node, kind))
            node = child
            continue
        following = node.next
        while following is None and above:
            node, kind = above.pop()
            if kind is not None:
                yield from _flush(pieces, kinds.pop())
                preformatted -= node.tag == "pre"
            following = node.next
        node = following
    yield from _flush(pieces, kinds[-1])


def _kind(tag: str, above: int) -> int | None:
    """Return what a block is, None for what stands within a line; what is in a heading is the heading."""
    if tag in _HEADINGS:
        return _HEADINGS[tag]
    if tag in _LINES or tag in _PARAGRAPHS:
        return above if above > _PARAGRAPH else _LINE if tag in _LINES else _PARAGRAPH
    return None


def _flush(pieces: list[str], kind: int) -> Iterator[_Block]:
    text = "".join(pieces).strip("\n")
    pieces.clear()
    if text.strip():
        yield text if "\n" in text else text.strip(), kind
