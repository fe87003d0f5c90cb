"""Names that Linkerd, cert-manager and trust-manager fix stand in `meshtrust.names` alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtrust import names

ROOT = Path(__file__).parents[2]
TABLE = {
    value: name
    for name, value in vars(names).items()
    # A name without a mark in it is a word that other things bear too.
    if name.isupper() and (isinstance(value, int) or (isinstance(value, str) and re.search(r"[-.]", value)))
}
NAMES = [value for value in TABLE if isinstance(value, str)]
COPY = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, sorted(NAMES, key=len, reverse=True)))})(?![\w-]|\.\w)")
MODULES = [
    path.relative_to(ROOT)
    for package in ("meshtrust", "program", "components", "rehearsal", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path != Path(names.__file__)
]


def copies(source: str) -> Iterator[str]:
    """Yield the names that a module writes out, with their lines; sentences may have them, docstrings among them."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant):
            continue
        if isinstance(node.value, str) and " " not in node.value.strip():
            yield from (f"line {node.lineno}: {TABLE[match]}" for match in COPY.findall(node.value))
        elif type(node.value) is int and node.value in TABLE:
            yield f"line {node.lineno}: {TABLE[node.value]}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_name_of_linkerd_or_of_its_operators_is_written_once(module):
    assert list(copies((ROOT / module).read_text(encoding="utf-8"))) == []


def test_a_copy_of_a_name_is_found():
    assert list(copies('path = f"secrets/{namespace}/linkerd-identity-issuer"')) == ["line 1: IDENTITY_ISSUER"]
    assert list(copies("port = 4191")) == ["line 1: PROXY_ADMIN_PORT"]
    assert list(copies('"Secret linkerd-identity-issuer is missing"')) == []
    assert list(copies('"linkerd-identity-issuer-2"')) == []
