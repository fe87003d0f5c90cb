"""Names in the documentation: each link, path, command, option, target, key and message that a page names exists."""

import ast
import re

import pytest
import typer
import yaml
from typer.core import TyperGroup, TyperOption

from docs.generate import flatten_commands
from meshtrust.commands.cli import app
from meshtrust.lint.rule_sets import RULES
from tests.recorder import REPOSITORY

PAGES = sorted(
    path.relative_to(REPOSITORY)
    for path in [
        *REPOSITORY.glob("*.md"),
        *(path for folder in ("docs", "policy", "deploy", ".github") for path in (REPOSITORY / folder).glob("**/*.md")),
    ]
)
CODE = sorted(
    path
    for folder in ("meshtrust", "program", "components", "rehearsal", "benchmarks")
    for path in (REPOSITORY / folder).rglob("*.py")
)
# Directories that a command makes.
MADE = {"policy/.venv", "dist/", "dist/sbom.json"}

every_page = pytest.mark.parametrize("page", PAGES, ids=str)


def text_of(page):
    return (REPOSITORY / page).read_text()


def prose_of(page):
    """A page without its code blocks."""
    return re.sub(r"(?s)```.*?```", "", text_of(page))


def code_of(page):
    """Each piece of code of a page: the spans in its prose, and the lines of its blocks without their comments."""
    blocks = "".join(re.findall(r"(?s)```\w*\n(.*?)```", text_of(page)))
    return [
        *re.findall(r"`([^`\n]+)`", prose_of(page)),
        *(re.sub(r"(^| )#.*", "", line) for line in blocks.splitlines()),
    ]


def anchors(path):
    """The anchors of a page's headings: in lower case, without punctuation, hyphens for spaces."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text())
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_there_are_pages():
    assert len(PAGES) >= 20


@every_page
def test_every_link_of_a_page_leads_somewhere_in_the_tree(page):
    for target in re.findall(r"\]\(([^)]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{page} links to {target}"


@every_page
def test_every_path_that_a_page_names_exists(page):
    folders = {path.name for path in REPOSITORY.iterdir()}
    for word in " ".join(code_of(page)).split():
        path = word.strip("'\"(),:;")
        if "/" in path and path.split("/")[0] in folders and path not in MADE and not re.search(r"[<*{$]", path):
            assert (REPOSITORY / path).exists(), f"{page} names {path}"


def test_the_number_of_rules_that_pages_name_is_that_of_the_linter():
    named = [number for page in PAGES for number in re.findall(r"\b(\d+) rules\b", text_of(page))]
    assert named
    assert set(named) == {str(len(RULES))}


def options_of_commands():
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {
        name: {name for option in command.params if isinstance(option, TyperOption) for name in option.opts}
        for name, command in flatten_commands(group)
    }


COMMANDS = options_of_commands()


@every_page
def test_every_command_that_a_page_names_has_that_name_and_those_options(page):
    for code in code_of(page):
        for line in re.findall(r"(?:^|[|&$-] ?|\bm )meshtrust ([a-z][^|&=]*)", code):
            words = line.split()
            name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)
            assert name or words == ["fleet"], f"{page} names meshtrust {line}"
            for option in re.findall(r"(?<!\S)(-[a-zA-Z]|--[a-z-]+)\b", line):
                assert option in COMMANDS[name], f"{page} gives {option} to meshtrust {name}"


@every_page
def test_every_target_that_a_page_names_is_one_of_the_makefile(page):
    targets = set(re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text()))
    for code in code_of(page):
        for target in re.findall(r"(?:^|[$'] ?|\w=\S+ )make ([a-z-]+)", code):
            assert target in targets, f"{page} names make {target}"


@every_page
def test_every_key_that_a_page_sets_is_one_of_the_project(page):
    keys = set(yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())["config"])
    maps = {key.split(".")[0] for key in keys}
    for code in code_of(page):
        for arguments in re.findall(r"pulumi config (?:set|rm|get) ([^|&<]+)", code):
            words = re.sub(r"--(stack|type) \S+|--\w+|'", "", arguments).split()
            if not words:  # a placeholder
                continue
            key = ".".join(re.split(r"[.\[]", words[0])[:2]) if "." in words[0] else words[0].partition("[")[0]
            assert key in keys or (key.partition(".")[0] in maps and "." not in key), f"{page} sets {words[0]}"


def definitions(path):
    """The names of the functions and classes of a module."""
    tree = ast.parse((REPOSITORY / path).read_text())
    return {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def test_every_function_of_the_walkthrough_is_in_the_file_that_it_links():
    rows = re.findall(r"(?m)^\|[^|]*\| `(\w+)` \| \[([\w/.]+)\]\(\.\./([\w/.]+)\) \|", text_of("docs/walkthrough.md"))
    assert len(rows) == text_of("docs/walkthrough.md").count("\n| ") - 2, "a row has another form"
    for name, shown, linked in rows:
        assert shown == linked
        assert name in definitions(linked), f"{name} is not in {linked}"


@every_page
def test_every_function_that_a_page_names_with_its_file_is_in_that_file(page):
    for name, path in re.findall(r"`(\w+)`\s+\(`([\w/]+\.py)`\)", text_of(page)):
        assert name in definitions(path), f"{page}: {name} is not in {path}"


def test_every_path_of_a_picture_exists():
    for picture in (REPOSITORY / "docs").glob("*.svg"):
        for path in re.findall(r"(?:program|meshtrust|components)/[\w/]*", picture.read_text()):
            assert (REPOSITORY / path).exists() or (REPOSITORY / f"{path}.py").exists(), f"{picture.name} names {path}"


def texts_of_code():
    """Every text of the program and the commands, with … for what an f-string puts in."""
    for path in [REPOSITORY / "__main__.py", *CODE]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_that_the_page_of_refusals_explains_is_one_of_the_program():
    messages = re.findall(r"(?m)^\| `([^`]+)` \|", text_of("docs/refusals.md"))
    texts = list(texts_of_code())
    assert messages
    for message in messages:
        parts = [re.escape(part) for part in message.split("…")]
        wanted = re.compile(r".*".join(parts), re.DOTALL)
        assert any(wanted.search(text) for text in texts), message


def test_every_page_and_heading_that_a_message_refers_to_exists():
    named = re.compile(r"docs/([a-z]+)\.md(?:(?:, | has it \()([A-Z][^.)]*))?")
    references = [reference for text in texts_of_code() for reference in named.findall(text)]
    assert references
    for page, heading in references:
        path = REPOSITORY / "docs" / f"{page}.md"
        assert path.exists(), page
        headings = re.findall(r"(?m)^#+ (.*)$", path.read_text())
        assert not heading or any(heading.startswith(each) for each in headings), f"{page}: {heading}"
