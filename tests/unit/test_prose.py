"""The repository is written in plain English: docstrings begin with a noun or a verb, and no sentence is inverted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("benchmarks", "ci", "components", "deploy", "docs", "meshtrust", "policy", "program", "rehearsal", "tests")
SUFFIXES = {".md", ".py", ".toml", ".yaml", ".yml"}
# A question in place of a noun or a verb. "Whether" begins the docstring of what is true or false, and of nothing else.
QUESTION = re.compile(r"(What|Who|Whom|Whose|Which|How|Where|When|Why)\b")
# Sentences with one of these are understood only by who wrote them. The plain words for each are beside it.
PHRASES = {
    r"nothing where|or nothing if": "None if, empty if",
    r"anew": "again, or the verb: renew, rewrite",
    r"of (before|elsewhere)": "earlier, external",
    r"(somebody|anybody|someone) else": "another tool, another person",
    r"all the same": "nevertheless",
    r"(is|are|was|were|be) told": "reports, knows, gets",
    r"tellers?": "progress",
    r"(?<!there )(?<!There )is no (YAML|text|field|value|certificate|CA|PEM|program)": "is not a",
    r"is none of": "is not one of",
    r"no news": "already known",
}
PHRASE = re.compile(rf"\b({'|'.join(PHRASES)})\b")
FILES = [
    path.relative_to(ROOT)
    for path in [*(ROOT / part for part in PARTS), ROOT]
    for path in sorted(path.rglob("*") if path != ROOT else path.glob("*"))
    # Pages of results keep the words of the day on which they were recorded.
    if path.suffix in SUFFIXES and path != Path(__file__) and "results" not in path.parts
]


def unclear_phrases(text: str) -> Iterator[str]:
    """Yield the phrases of a text that are not plain English, with their lines."""
    for number, line in enumerate(text.splitlines(), 1):
        yield from (f'line {number}: "{match[0]}"' for match in PHRASE.finditer(line))


def unclear_docstrings(source: str) -> Iterator[str]:
    """Yield the docstrings that begin with a question, or with "Whether" where no truth value is returned."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node) or ""
        returns = getattr(node, "returns", None)
        is_other = isinstance(node, ast.ClassDef) or (returns is not None and ast.unparse(returns) != "bool")
        if QUESTION.match(docstring) or (docstring.startswith("Whether ") and is_other):
            yield f'line {getattr(node, "lineno", 1)}: "{docstring.splitlines()[0]}"'


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_repository_is_written_in_plain_english(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    found = list(unclear_phrases(text))
    if file.suffix == ".py":
        found += unclear_docstrings(text)
    assert found == []


def test_a_phrase_that_is_not_plain_is_found():
    assert list(unclear_phrases("It is made\nanew, or nothing where it is there.")) == [
        'line 2: "anew"',
        'line 2: "nothing where"',
    ]


def test_a_docstring_that_is_a_question_is_found():
    assert list(unclear_docstrings('"""How it works."""')) == ['line 1: "How it works."']
    assert list(unclear_docstrings('def f() -> int:\n    """Whether it is."""')) == ['line 1: "Whether it is."']
    assert list(unclear_docstrings('def f() -> bool:\n    """Whether it is."""')) == []
