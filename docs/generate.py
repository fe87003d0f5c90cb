"""Writes docs/configuration.md from the configuration schema in Pulumi.yaml, so that the two cannot part."""

import json
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
HEAD = """# Configuration

Generated from `Pulumi.yaml` by `make docs`; a test keeps the two the same. Set a key with
`pulumi config set --path <key> <value>`, or write it into `stacks/Pulumi.<stack>.yaml`. A key with a dot is a path:
`issuer.mode` is the member `mode` of the map `meshtrust:issuer`. `settings.py` checks every value, and how the values
fit together, before anything is changed.

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


def main() -> None:
    """Write the file."""
    project = yaml.safe_load((DOCS.parent / "Pulumi.yaml").read_text())
    (DOCS / "configuration.md").write_text(configuration(project))


if __name__ == "__main__":
    main()
