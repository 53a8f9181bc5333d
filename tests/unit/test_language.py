"""The language of a text: found where it is prose, and nothing said where it is not, or too short."""

from __future__ import annotations

import hashlib

import pytest

from sercha.adapters.parsing.kinds import find_kind
from sercha.adapters.parsing.language import find_language
from sercha.adapters.parsing.text import extract_text
from tests.support import documents
from tests.support.documents import parse

PROSE = {
    "en": "The report is for those who have to know what the team did in the last year, and it was written by them.",
    "de": "Der Bericht ist für alle, die wissen wollen, was das Team im letzten Jahr getan hat und warum es nicht reichte.",
    "fr": "Le rapport est pour les personnes qui veulent savoir ce que les équipes ont fait dans une année, et pourquoi.",
    "es": "El informe es para los que quieren saber lo que el equipo hizo en un año, y por qué no fue más con la gente.",
    "it": "Il rapporto è per chi non sa che cosa la squadra ha fatto in un anno, con gli altri e nel tempo della gara.",
    "pt": "O relatório é para os que não sabem o que a equipe fez em um ano, com uma lista das coisas que foram feitas.",
    "nl": "Het verslag is voor wie niet weet wat het team in een jaar heeft gedaan, en dat is door de leden geschreven.",
    "sv": "Rapporten är för dem som inte vet vad gruppen har gjort under ett år, och den är skriven av de som var med.",
    "pl": "Raport jest dla tych, którzy nie wiedzą, co zespół zrobił w ciągu roku, i jest to lista rzeczy do poprawy.",
    "cs": "Zpráva je pro ty, kteří ve firmě nejsou dlouho, a je to seznam věcí, které se za rok podle plánu udělaly.",
    "fi": "Raportti on niille, jotka eivät ole mukana, ja se on tehty niin että kaikki voivat lukea sen kun on aikaa.",
    "tr": "Bu rapor, ekip için bir yıl içinde ne kadar çok iş olduğunu ve daha sonra ne gibi işler var gösterir.",
    "ru": "Отчёт для тех, кто не знает, что команда сделала за год, и он был написан так, что это может понять каждый.",
    "uk": "Звіт для тих, хто не знає, що команда зробила за рік, і він був написаний так, що це може зрозуміти кожен.",
    "el": "Η αναφορά είναι για όσους δεν ξέρουν τι έκανε η ομάδα μέσα σε έναν χρόνο και γιατί δεν ήταν αρκετό.",
    "he": "הדוח מיועד למי שאינו יודע מה עשה הצוות בשנה האחרונה ומדוע זה לא הספיק לכל מי שחיכה לתוצאות.",
    "ar": "هذا التقرير هو عن ما كان في السنة التي مرت على الفريق ولم يكن قد كتب من قبل أو بعد ذلك لأي شخص في المكتب.",
    "ja": "この報告書は、チームが一年の間に何をしたのかを知りたい人のために書かれました。来年の計画も含まれています。",
    "zh": "本报告是为想了解团队在过去一年中做了什么的人编写的，其中也包括明年的计划以及需要改进的地方和建议。",
    "ko": "이 보고서는 지난 한 해 동안 팀이 무엇을 했는지 알고 싶은 사람들을 위해 작성되었으며 내년 계획도 있습니다.",
}
CODE = (
    "def find(the, of, and_):\n    if the in of and not and_:\n        return {the: of[0] for it in a}\n"
    * 4
)
SUMS = " ".join(hashlib.sha256(bytes([at])).hexdigest()[: at % 8 + 1] for at in range(200))


@pytest.mark.parametrize("language", PROSE)
def test_the_language_of_prose_is_found(language: str) -> None:
    assert find_language(PROSE[language], "text/plain") == language
    assert find_language(f"{PROSE[language]}\n\n" * 50, "text/markdown") == language


@pytest.mark.parametrize(
    ("text", "mime_type"),
    [
        ("", "text/plain"),
        ("The end of it", "text/plain"),
        ("short 漢字", "text/plain"),
        (PROSE["en"], "text/x-python"),
        (PROSE["en"], "application/json"),
        (PROSE["en"], "text/csv"),
        (CODE, "text/plain"),
        (SUMS, "text/plain"),
        ("Oolong Sencha Keemun Gyokuro Matcha Darjeeling Assam Ceylon " * 5, "text/plain"),
        ("\n" * 1_000, "text/plain"),
    ],
)
def test_nothing_is_said_of_what_is_short_or_no_prose(text: str, mime_type: str) -> None:
    assert find_language(text, mime_type) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", documents.make_pdf([PROSE["de"]])),
        ("a.odt", documents.make_odt([(0, PROSE["de"])])),
        ("a.ods", documents.make_ods({"S": [[PROSE["de"]]]})),
        ("a.rtf", documents.make_rtf(PROSE["de"])),
        ("a.xlsx", documents.make_xlsx({"S": [[PROSE["de"]]]})),
        ("a.eml", documents.make_eml(f"{PROSE['de']}\n" * 5)),
        ("a.html", f"<!doctype html><meta charset=utf-8><p>{PROSE['de']}".encode()),
        ("a.ipynb", documents.make_notebook([("markdown", PROSE["de"], "")])),
        ("a.txt", PROSE["de"].encode("cp1252")),
        ("a.md", f"# Tee\n\n{PROSE['de']}".encode()),
    ],
)
def test_documents_that_declare_no_language_have_the_one_that_is_found(
    name: str, content: bytes
) -> None:
    is_parsed = find_kind(name, content) is not None
    extracted = parse(name, content) if is_parsed else extract_text(name, content)

    assert extracted.metadata["language"] == "de"


def test_a_language_that_is_declared_stays() -> None:
    page = f'<!doctype html><html lang="en"><meta charset=utf-8><p>{PROSE["de"]}'

    assert parse("a.html", page.encode()).metadata["language"] == "en"


def test_the_middle_of_a_text_counts() -> None:
    assert find_language(f"{PROSE['de']}\n{PROSE['en'] * 6}\n{PROSE['de']}", "text/plain") == "en"
