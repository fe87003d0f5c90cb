"""Stand-ins for the charts of Buoyant Enterprise for Linkerd: Linkerd's charts, under their names, with a license.

The charts are to be had from Buoyant alone. Their values are those of Linkerd's charts, at the top, and one of
``license`` and ``licenseSecret`` (docs.buoyant.io, reference of the lifecycle operator; BuoyantIO/service-mesh-academy,
aws/terraform/linkerd/components/helm.tf, version 2.19.4).
"""

import shutil
from pathlib import Path

import yaml

from meshtrust.names import (
    LICENSE_SECRET_VALUE,
    LICENSE_VALUE,
    LINKERD_CONTROL_PLANE,
    LINKERD_CRDS,
    LINKERD_ENTERPRISE_CONTROL_PLANE,
    LINKERD_ENTERPRISE_CRDS,
)
from rehearsal import mesh

VERSION = "2.20.2"
_LICENSE = """{{- if eq (empty .Values.license) (empty .Values.licenseSecret) }}
{{- fail "Please provide exactly one of license and licenseSecret" }}
{{- end }}
{{- if .Values.license }}
apiVersion: v1
kind: Secret
metadata:
  name: linkerd-stand-in-license
  namespace: {{ .Release.Namespace }}
stringData:
  license: {{ .Values.license | quote }}
{{- end }}
"""


def write_charts(
    directory: Path, source: Path | None = None, *, crds: str = LINKERD_ENTERPRISE_CRDS, control_plane: str = ""
) -> Path:
    """Write both charts into a directory, and return it.

    Args:
        directory: The directory, which must not exist.
        source: Directory of Linkerd's charts that they are made from; the stand-ins unless it is given.
        crds: Name of the chart of the definitions.
        control_plane: Name of the chart of the control plane; empty for Buoyant's.
    """
    names = {LINKERD_CRDS: crds, LINKERD_CONTROL_PLANE: control_plane or LINKERD_ENTERPRISE_CONTROL_PLANE}
    for original, name in names.items():
        chart = Path(shutil.copytree((source or mesh.charts()) / original, directory / name))
        described = yaml.safe_load((chart / "Chart.yaml").read_text())
        (chart / "Chart.yaml").write_text(yaml.safe_dump({**described, "name": name, "version": VERSION}))
    with (chart / "values.yaml").open("a") as values:
        values.write(f'\n{LICENSE_VALUE}: ""\n{LICENSE_SECRET_VALUE}: ""\n')
    (chart / "templates" / "license.yaml").write_text(_LICENSE)
    return directory
