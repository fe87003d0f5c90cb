"""`python -m tests.unit.lint.cases <folder>`: hold the linter against inputs whose right verdicts are known.

The folder has a `cases.yaml`: for each input the exit code, what findings of which level have to be about, and what
must not be said. A finding counts as being about a sentence where it has most of its telling words.
"""

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from meshtrust.commands.lint import lint
from meshtrust.lint import Finding
from meshtrust.lint.reading.files import read_files
from meshtrust.lint.runner import lint_material

# Of the words of a sentence so many have to be in a finding that is about it.
_SHARE = 0.55
_WORD = re.compile(r"[A-Za-z0-9][-\w./]*[A-Za-z0-9]")
_PLAIN = frozenset(
    (
        *("about", "all", "and", "are", "behind", "both", "but", "can", "comes", "does", "each", "for", "from", "has"),
        *("have", "here", "holds", "into", "its", "items", "makes", "more", "names", "none", "not", "other", "reads"),
        *("that", "the", "there", "this", "which", "with", "writes"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case and what is wrong with the linter's verdict; nothing is where it holds."""

    path: str
    kind: str
    wrong: tuple[str, ...]
    opinion: str


def judge(folder: Path, case: dict[str, Any]) -> Outcome:
    """Run the linter on one input, and compare what it says with what it should say.

    Args:
        folder: The folder that has the input.
        case: The case, as `cases.yaml` has it.
    """
    app = typer.Typer()
    app.command()(lint)
    path, expect = folder / case["path"], case["expect"]
    done = CliRunner().invoke(app, [str(path)])
    said = done.output.replace(str(folder), "")
    found = lint_material(read_files([path]), datetime.now(UTC)).findings
    wrong = [f"ends with a traceback: {done.exception!r}"] if done.exit_code not in (0, 1, 3) else []
    allowed = {expect["exit"], expect.get("or_exit", expect["exit"])}
    if done.exit_code not in allowed:
        wrong.append(f"exits with {done.exit_code}, not {' or '.join(map(str, sorted(allowed)))}")
    wrong += [f'says "{word}"' for word in expect["never"] if word in said]
    if done.exit_code == 0:
        wrong += [f"has an error and exits with 0: {one}" for one in found if one.severity == "error"]
    for level in ("error", "warning"):
        # Where a milder verdict will do, a warning is as good as an error, and a harder one is no worse.
        levels = {level} if len(allowed) == 1 and level == "error" else {"error", "warning"}
        for sentence in expect[level] if done.exit_code != 0 or level == "warning" or len(allowed) == 1 else []:
            if not any(_is_about(one, sentence) for one in found if one.severity in levels):
                wrong.append(f"has no {level} about this: {sentence}")
    return Outcome(path=case["path"], kind=case["kind"], wrong=tuple(wrong), opinion=case.get("opinion", ""))


def _is_about(finding: Finding, sentence: str) -> bool:
    rule = finding.rule
    text = f"{finding} {finding.location and finding.location.file} {rule and f'{rule.title} {rule.reason}'}"
    words = {word for word in _words(sentence) if len(word) > 2 and word not in _PLAIN}
    return len(words & _words(text)) >= _SHARE * len(words)


def _words(text: str) -> set[str]:
    whole = {word.lower() for word in _WORD.findall(text)}
    return whole | {part for word in whole for part in re.split(r"[./]", word)}


def main(folder: Path) -> None:
    """Judge every case of a folder; end with 1 if one does not hold that is not debatable."""
    console = Console(soft_wrap=True, highlight=False)
    listed = folder / "cases.yaml"
    if not listed.is_file():
        console.print(f"There are no cases at hand: {listed} is not there.", markup=False)
        return
    outcomes = [judge(folder, case) for case in yaml.safe_load(listed.read_text(encoding="utf-8"))]
    for outcome in outcomes:
        for wrong in outcome.wrong:
            console.print(f"{outcome.path} ({outcome.kind}): it {wrong}", markup=False)
        if outcome.wrong and outcome.opinion:
            console.print(f"  debatable: {outcome.opinion}", markup=False)
    console.print(f"cases: {sum(not outcome.wrong for outcome in outcomes)} of {len(outcomes)} hold")
    sys.exit(any(outcome.wrong and not outcome.opinion for outcome in outcomes))


if __name__ == "__main__":
    typer.run(main)
