"""Programs of a rehearsal cluster: one binary of many programs, and the charts of some, built once and kept."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rehearsal.programs import GoProgram, ensure_all

# The API server reports these as its version; charts refuse a version that they do not know (kubeVersion).
KUBERNETES = "v1.36.3"
_MAJOR, _MINOR, _ = KUBERNETES.removeprefix("v").split(".")
_VERSION = "k8s.io/component-base/version"
# Charts in the modules of the programs that they install.
CHARTS = {
    "cert-manager": "github.com/cert-manager/cert-manager",
    "trust-manager": "github.com/cert-manager/trust-manager",
}


@dataclass(frozen=True)
class Binaries:
    """The programs and charts that were built.

    Attributes:
        path: The binary; its first argument names the program.
        charts: The directory that holds the charts `cert-manager` and `trust-manager`.
    """

    path: Path
    charts: Path

    @property
    def helm(self) -> list[str]:
        """The command line of helm."""
        return [str(self.path), "helm"]

    @property
    def kubectl(self) -> list[str]:
        """The command line of kubectl."""
        return [str(self.path), "kubectl"]


def _copy_charts(draft: Path, modules: Mapping[str, Path]) -> None:
    """Copy the charts out of their modules, with the version that their release would have written into them."""
    for name, module in CHARTS.items():
        target = draft / "charts" / name
        shutil.copytree(modules[module] / "deploy" / "charts" / name, target, copy_function=shutil.copyfile)
        for path in [target, *target.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        version = modules[module].name.partition("@")[2]
        chart = target / "Chart.yaml"
        chart.write_text(re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {version}", chart.read_text()))


CLUSTER = GoProgram(
    name="rehearsal",
    title="the rehearsal cluster (etcd, Kubernetes, kwok, cert-manager and helm)",
    module=Path(__file__).parent.parent,
    package="./cmd/rehearsal",
    linker_flags=(
        f"-s -w -X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"
    ),
    packages=3000,
    finish=_copy_charts,
)


def ensure() -> Binaries:
    """Return the binaries, building them first if they are not in the cache.

    Raises:
        BuildError: Go is missing, or the build fails; the message has the end of its output.
    """
    ensure_all([CLUSTER])
    return Binaries(path=CLUSTER.path, charts=CLUSTER.directory / "charts")
