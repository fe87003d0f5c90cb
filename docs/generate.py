"""Generates the reference pages in docs/ from their sources.

docs/configuration.md comes from the schema in Pulumi.yaml, docs/commands.md from the commands, docs/lint.md from the
linter's rules, docs/performance.md from the results of `make bench`, docs/faults.md from the results of the suite of
faults, and docs/packages.svg from the imports.
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
from benchmarks.timeline import draw_timeline
from docs.package_picture import draw_packages, read_packages
from meshtrust.commands.cli import EXIT_CODES, app
from meshtrust.lint.rule_sets import RULE_SETS

DOCS = Path(__file__).parent
# Results of the suite of faults, as `make faults` recorded them last.
FAULTS = DOCS / "faults.json"
# The recorded timeline among the results of the benchmark deploy, and its picture.
TIMELINE = "timeline"
TIMELINE_FILE = "first-up.svg"
TIMELINE_TITLE = "A first `pulumi up` with waiting times; dark: the critical path"
HEAD = """# Configuration

This page lists all keys, for people who write a stack's file. `make docs` generates it from `Pulumi.yaml`.

Set a key with `pulumi config set --path <key> <value>`, or write it into `stacks/Pulumi.<stack>.yaml`. A dot in a key
is a path: `issuer.mode` is the member `mode` of the map `meshtrust:issuer`. Every run first checks all values and how
they fit together, and reports all mistakes at once.

| key | type | default | description |
| --- | --- | --- | --- |
"""


def configuration(project: dict[str, Any]) -> str:
    """Return the reference of a project's configuration as Markdown.

    Args:
        project: The content of Pulumi.yaml.
    """
    rows = []
    for key, declared in project["config"].items():
        kind = f"list of {declared['items']['type']}" if declared["type"] == "array" else declared["type"]
        default = f"`{json.dumps(declared['default'])}`" if "default" in declared else "required"
        rows.append(f"| `{key}` | {kind} | {default} | {declared['description']} |")
    return HEAD + "\n".join(rows) + "\n"


COMMANDS_HEAD = """# Commands

This page lists all commands, for people who run a mesh. `make docs` generates it from the commands. Run
them as `.venv/bin/python -m meshtrust`.
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
        table = "| option | default | description |\n| --- | --- | --- |\n" + "\n".join(rows)
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


LINT_HEAD = """# The linter

This page is for people who write manifests, Helm values or certificates for Linkerd. It describes `meshtrust lint` and
lists every rule. `make docs` generates it from the rules. `pulumi preview` applies the rules about configuration;
`meshtrust lint` applies all of them to files, with or without Pulumi:

```console
$ .venv/bin/python -m meshtrust lint clusters/east                    # a directory, with its subdirectories
$ helm template my-chart | .venv/bin/python -m meshtrust lint -       # standard input
$ .venv/bin/python -m meshtrust lint . --format sarif --output lint.sarif
```

The linter reads:

- YAML and JSON with one or more objects: cert-manager's Certificates and Issuers, Secrets, trust-manager's Bundles and
  ClusterBundles, the ConfigMap linkerd-identity-trust-roots, Namespaces, webhook configurations, and Lists
- Helm values of Linkerd: in values files (at the top, or below a subchart's name or alias), HelmReleases of Flux,
  Applications and ApplicationSets of Argo CD (with their parameters), HelmCharts of k3s, helmfiles, Kustomize
  (helmCharts, patches, generators), Buoyant's ControlPlane, and other carriers
- PEM files: bundles, chains and keys

It matches objects by references:

- a certificate and its signer: by signature and key identifiers
- a Certificate, its Issuer and the CA's Secret: by their names
- an issuer and its bundle, or a release and its values: by directory, if one is the same as the other, directly above
  it, or directly below it; neighbouring directories may belong to two clusters
- a PEM file and Linkerd: by references to the file, by what it signed, by its name, or by the files beside it; a file
  that you name is always checked

The linter does not check templates and placeholders (`{{ }}`, `${}`, `$VAR`, `@X@`, `<path:…>`, `ENC[…]` and similar).
A value that is missing in one values file or patch may be in another, so it is a note at most. The linter ignores
objects that have nothing to do with Linkerd; the last line of its report counts them by kind, and says how much it
checked. It never shows a key.

An error breaks the mesh, or will. A warning may break it, or breaks a tool. A note is information. Some rules are
milder if the input may have another meaning. `--ignore MT320` leaves out a rule.

| exit code | meaning |
| --- | --- |
| 0 | no errors (with `--strict`: no warnings either), or nothing to check |
| 1 | errors (with `--strict`: or warnings) |
| 2 | wrong usage |
| 3 | a file cannot be read and was not checked, or the report cannot be written |
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


PERFORMANCE_HEAD = """# Performance

This page shows the measured cost of the program and its commands, for people who compare or change it. `make docs`
generates it from the numbers that `make bench` stores in `benchmarks/results`.

A ratio compares two things that ran alternately in one run, so it says more than seconds, which depend on the machine.
Nothing on the rehearsal cluster waits for an image or a container. A median ratio is the median of the ratios of all
pairs, not the ratio of two medians.

| comparison | measured | at most | |
| --- | --- | --- | --- |
"""


def performance() -> str:
    """Return the measured numbers as Markdown, first those with a limit."""
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
        numbers = _numbers({key: value for key, value in run["results"].items() if key != TIMELINE})
        picture = f"![{TIMELINE_TITLE}]({TIMELINE_FILE})\n\n" if TIMELINE in run["results"] else ""
        parts.append(f"## {name}\n\n{about}\n\n{picture}{numbers}\n\n{where}.\n")
    return "\n".join(parts)


def timeline() -> str | None:
    """Return the picture of the critical path of a first run; None if no such run was recorded."""
    kept = RESULTS / "deploy.json"
    bars = json.loads(kept.read_text())["results"].get(TIMELINE) if kept.is_file() else None
    return draw_timeline(bars, TIMELINE_TITLE) if bars else None


def _numbers(results: dict[str, Any]) -> str:
    """Return the results of a benchmark as tables: one for single values, and one for each result with rows."""
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


FAULTS_HEAD = """# Faults and their effects

This page shows the effects of tested faults, for people who operate a stack. `make docs` generates it from the results
of the suite `tests/rehearsal/faults`, which `make faults` records. `make soak` runs the suite, and fails if a result
differs from this table.

Each fault happens to the unmodified program on a rehearsal cluster. The messages are quoted from the run, with `…` for
text that differs from run to run. *nothing* means that the command succeeds and takes longer. To repair a mesh, see the
[runbook](runbook.md).

| fault | when | effect | message | state at the end |
| --- | --- | --- | --- | --- |
"""


def faults(found: dict[str, dict[str, str]]) -> str:
    """Return the table of faults as Markdown.

    Args:
        found: The cells of each row, by the name of their test.
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
    if drawn := timeline():
        (DOCS / TIMELINE_FILE).write_text(drawn)
    (DOCS / "faults.md").write_text(faults(json.loads(FAULTS.read_text())))
    (DOCS / "packages.svg").write_text(draw_packages(read_packages()))


if __name__ == "__main__":
    main()
