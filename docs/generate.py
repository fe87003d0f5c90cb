"""Writes the references in docs/ from what they are about, so that the two cannot part.

docs/configuration.md is made from the schema in Pulumi.yaml, docs/commands.md from the commands themselves,
docs/lint.md from the linter's rules, docs/performance.md from what `make bench` has measured, docs/faults.md from what
the suite of faults found out.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from benchmarks.__main__ import BENCHMARKS
from benchmarks.machine import RESULTS
from benchmarks.targets import judge, verdict
from docs.package_picture import draw_packages, read_packages
from meshtrust.commands.cli import EXIT_CODES, app
from meshtrust.lint import RULE_SETS

DOCS = Path(__file__).parent
# What the suite of faults found out when it was last recorded (make faults).
FAULTS = DOCS / "faults.json"
HEAD = """# Configuration

Generated from `Pulumi.yaml` by `make docs`; a test keeps the two the same. Set a key with
`pulumi config set --path <key> <value>`, or write it into `stacks/Pulumi.<stack>.yaml`. A key with a dot is a path:
`issuer.mode` is the member `mode` of the map `meshtrust:issuer`. `program/configuration/` checks every value, and
how the values fit together, before anything is changed.

| key | type | default | what it is |
| --- | --- | --- | --- |
"""


def configuration(project: dict[str, Any]) -> str:
    """Return the reference of a project's configuration as Markdown.

    Args:
        project: Pulumi.yaml as it was read.
    """
    rows = []
    for key, declared in project["config"].items():
        kind = f"list of {declared['items']['type']}" if declared["type"] == "array" else declared["type"]
        default = f"`{json.dumps(declared['default'])}`" if "default" in declared else "required"
        rows.append(f"| `{key}` | {kind} | {default} | {declared['description']} |")
    return HEAD + "\n".join(rows) + "\n"


COMMANDS_HEAD = """# Commands

Generated from the commands by `make docs`; a test keeps the two the same. Run them as `.venv/bin/python -m meshtrust`.
"""


def commands() -> str:
    """Return the reference of the commands as Markdown."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 an app of several commands is one
    parts = [COMMANDS_HEAD, _exit_codes()]
    for name, command in flatten_commands(group):
        about = " ".join((command.help or "").split("\n\n")[0].split())
        more = [" ".join(text.split()) for text in (command.help or "").split("\n\n")[1:]]
        rows = [
            f"| `{', '.join(option.opts)}` | {_default(option)} | {option.help}{_choices(option)} |"
            for option in command.params
            if isinstance(option, TyperOption) and not option.is_eager
        ]
        rows = [f"| `{_usage(given)}` | required | {given.help} |" for given in _arguments(command)] + rows
        table = "| option | default | what it is |\n| --- | --- | --- |\n" + "\n".join(rows)
        parts.append("\n\n".join([f"## meshtrust {name}", about, *more, table]) + "\n")
    return "\n".join(parts)


def flatten_commands(group: TyperGroup, before: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Yield the commands of a group and of the groups in it, with their whole names."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from flatten_commands(command, f"{before}{name} ")
        elif isinstance(command, TyperCommand):
            yield f"{before}{name}", command


def _exit_codes() -> str:
    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    return f"| exit code | meaning |\n| --- | --- |\n{rows}\n"


def _arguments(command: TyperCommand) -> list[TyperArgument]:
    return [given for given in command.params if isinstance(given, TyperArgument)]


def _usage(given: TyperArgument) -> str:
    return f"{given.display_name_raw.upper()}{'' if given.nargs == 1 else '...'}"


def _choices(option: TyperOption) -> str:
    named = [f"`{choice.value}`" for choice in option.type_descriptor.choices or ()]
    return f" {', '.join(named[:-1])} or {named[-1]}." if named else ""


def _default(option: TyperOption) -> str:
    if option.required:
        return "required"
    return f"`{option.default}`" if option.default not in ("", None, False) else ""


LINT_HEAD = """# What the linter finds

Generated from the rules by `make docs`; a test keeps the two the same. `pulumi preview` applies those that
configuration can break; `meshtrust lint` applies all of them to files, with or without Pulumi:

```console
$ .venv/bin/python -m meshtrust lint clusters/east                    # a directory, with all that is below it
$ helm template my-chart | .venv/bin/python -m meshtrust lint -       # standard input
$ .venv/bin/python -m meshtrust lint . --format sarif --output lint.sarif
```

It reads YAML and JSON: cert-manager's Certificates and Issuers, Secrets, trust-manager's Bundles and ClusterBundles,
the ConfigMap linkerd-identity-trust-roots, Namespaces, webhook configurations, Lists, several objects in one file; and
Helm values of Linkerd in values files (at the top, or below a subchart's name or alias), HelmReleases of Flux,
Applications and ApplicationSets of Argo CD (with their parameters), HelmCharts of k3s, helmfiles, Kustomize
(helmCharts, patches, generators), Buoyant's ControlPlane, and wherever else they stand. And it reads PEM: bundles,
chains, keys. What belongs together is told by references, not by names:

- a certificate and what signed it: by its signature and key identifiers
- a Certificate, its Issuer and the CA's Secret: by the names that they give of each other
- an issuer and its bundle, a release and its values: by the directory, which is the same, one above or one below; two
  that lie side by side may be those of two clusters
- a PEM file and Linkerd: by what refers to it, what it signed, its name, or what lies beside it; one that the user
  names is always judged

A template is not judged, and neither is a value that is yet to be filled in (`{{ }}`, `${}`, `$VAR`, `@X@`,
`<path:…>`, `ENC[…]` and the like). What one file of values, or a patch, does not say may stand in another, and is at
most a note. What has nothing to do with Linkerd is left alone: the last line counts it by kind, and says how much was
judged. No key is shown.

An error breaks the mesh, or will. A warning may, or breaks a tool. A note is good to know. Some rules are milder where
something may be otherwise than it looks. `--ignore MT320` leaves a rule out.

| exit code | meaning |
| --- | --- |
| 0 | nothing is wrong in what was judged (with `--strict`: no warning either), or nothing was there to judge |
| 1 | there are errors (with `--strict`: or warnings) |
| 2 | wrong usage |
| 3 | something cannot be read, and was not judged; or the report could not be written |
"""


def lint_rules() -> str:
    """Return the reference of the linter's rules as Markdown."""
    parts = [LINT_HEAD]
    for group in RULE_SETS:
        parts.append(f"## {group.title}\n")
        parts += [
            f"### {rule.id} ({rule.severity}): {rule.title}\n\n"
            f"{rule.reason}\n\n- Fix: {rule.fix}.\n- Source: {rule.source}.\n"
            for rule in group.rules
        ]
    return "\n".join(parts)


PERFORMANCE_HEAD = """# What it costs

Generated by `make docs` from the numbers that `make bench` keeps in `benchmarks/results`; a test keeps the two the
same. A ratio compares two things that ran in turn in one run, so that it says more than the seconds, which are those
of one machine: nothing that runs on the rehearsal cluster waits for an image or a container. A median ratio is the
median of the pairs' own ratios, and not the ratio of the two medians.

| what is compared | measured | at most | |
| --- | --- | --- | --- |
"""


def performance() -> str:
    """Return the measured numbers as Markdown, those first that were to be no more than so much."""
    kept = {name: json.loads(path.read_text()) for name in BENCHMARKS if (path := RESULTS / f"{name}.json").is_file()}
    judged = [
        f"| {target.what} | {measured:g} | {target.most:g} | {verdict(target, measured)} |"
        for name, run in kept.items()
        for target, measured in judge(name, run["results"])
    ]
    parts = [PERFORMANCE_HEAD + "\n".join(judged) + "\n"]
    for name, run in kept.items():
        machine = run["machine"]
        where = (
            f"{machine['cores']} cores ({machine['cpu']}), {machine['memoryGiB']} GiB, Python {machine['python']}, "
            f"{machine['at'][:10]}, load before: {machine['loadBefore']}"
        )
        about = (sys.modules[BENCHMARKS[name].__module__].__doc__ or "").strip()
        parts.append(f"## {name}\n\n{about}\n\n{_numbers(run['results'])}\n\n{where}.\n")
    return "\n".join(parts)


def _numbers(results: dict[str, Any]) -> str:
    """Return the results of a benchmark as tables: one row each, and a table of its own for what has rows itself."""
    tables = {key: value for key, value in results.items() if _is_table(value)}
    single = [(_words(key), _cell(value)) for key, value in results.items() if key not in tables]
    parts = [_table(["", ""], single)]
    for key, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        head = [_words(key), *map(_words, columns)]
        lines = [[_words(name), *(_cell(row.get(column, "")) for column in columns)] for name, row in rows.items()]
        parts.append(_table(head, lines))
    return "\n\n".join(parts)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(row, dict) for row in value.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _words(key: str) -> str:
    """Return the words of a name like `memoryMiB`; units stay as they are written."""
    words = re.findall(r"[KM]iB|[A-Z]?[a-z]+|\d+", key)
    return " ".join(word if word.endswith("iB") else word.lower() for word in words)


FAULTS_HEAD = """# What goes wrong, and what then

Generated by `make docs` from what the suite of faults recorded (`make faults`). It is in `tests/rehearsal/faults`, runs
with `make soak`, and fails where a run finds another row than these. Each fault happens to the unmodified program, on a
rehearsal cluster. What a user sees is quoted from the run, with `…` for what differs from run to run;
where it says *nothing*, the command ends well and takes longer. What to do when a mesh is down is in the
[runbook](runbook.md).

| fault | when | what happens | what the user sees | what is as it should be in the end |
| --- | --- | --- | --- | --- |
"""


def faults(found: dict[str, dict[str, str]]) -> str:
    """Return the table of faults as Markdown.

    Args:
        found: The cells of each row, by the name of the test that they are from.
    """
    rows = sorted(
        (cells["fault"], cells["when"], cells["happens"], _quoted(cells["says"]), cells["kept"])
        for cells in found.values()
    )
    return FAULTS_HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _quoted(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`` {escaped} ``" if text else "*nothing*"


def main() -> None:
    """Write the files."""
    project = yaml.safe_load((DOCS.parent / "Pulumi.yaml").read_text())
    (DOCS / "configuration.md").write_text(configuration(project))
    (DOCS / "commands.md").write_text(commands())
    (DOCS / "lint.md").write_text(lint_rules())
    (DOCS / "performance.md").write_text(performance())
    (DOCS / "faults.md").write_text(faults(json.loads(FAULTS.read_text())))
    (DOCS / "packages.svg").write_text(draw_packages(read_packages()))


if __name__ == "__main__":
    main()
