"""What a preview that finds nothing to do costs, against an empty Pulumi program with the same providers."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import deployed, timed
from rehearsal.workspace import workspace

PAIRS = 9
_PREVIEW = ("preview", "--non-interactive")
_EMPTY = """
import pulumi, pulumi_kubernetes, pulumi_random, pulumi_tls

config = pulumi.Config()
pulumi_kubernetes.Provider("kubernetes", kubeconfig=config.get("kubeconfig"), context=config.get("context"))
pulumi_random.Provider("random")
pulumi_tls.Provider("tls")
"""


def measure() -> dict[str, Any]:
    """Preview a deployed stack and a deployed empty program, in turn."""
    with deployed("dev") as (cluster, project), tempfile.TemporaryDirectory(prefix="meshtrust-empty-") as directory:
        settings = {"context": cluster.context, "kubeconfig": str(cluster.kubeconfig)}
        with workspace("dev", settings=settings, directory=Path(directory)) as empty:
            program = empty.directory / "__main__.py"
            program.unlink()
            program.write_text(_EMPTY)
            empty.capture("up", "--yes", "--skip-preview", "--non-interactive").check_returncode()
            ours, theirs = [], []
            for _ in range(PAIRS):
                theirs.append(timed(empty, *_PREVIEW))
                ours.append(timed(project, *_PREVIEW))
    return {
        "engine": "pulumi" if project.is_real else "embedded",
        "pairs": PAIRS,
        "secondsMedian": {"stack": round(statistics.median(ours), 2), "empty": round(statistics.median(theirs), 2)},
        "ratioMedian": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
    }
