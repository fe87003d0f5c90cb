"""A stack that a test changes as its owner would, on a cluster that a test looks into."""

from datetime import UTC, datetime

import yaml

from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import read_bundle
from rehearsal import mesh
from tests.key_material import KeySearch
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.stack import NO_CHANGES, UP

ISSUER_SECRET = "/api/v1/namespaces/linkerd/secrets/linkerd-identity-issuer"
# Maps of which a test gives some members, and the others stay.
SECTIONS = ("issuer", "linkerd", "certManager", "webhooks", "trustBundle")


class LiveStack:
    """A stack in a workspace, whose configuration a test changes as its owner would."""

    def __init__(self, project, cluster):
        self.project, self.cluster = project, cluster

    def configure(self, **settings):
        path = self.project.directory / "stacks" / f"Pulumi.{self.project.stack}.yaml"
        document = yaml.safe_load(path.read_text())
        for key, value in settings.items():
            below = document["config"].get(f"meshtrust:{key}") if key in SECTIONS else None
            document["config"][f"meshtrust:{key}"] = {**below, **value} if below else value
        path.write_text(yaml.safe_dump(document))

    def set_key(self, generation, pem):
        path = f'anchorKeys["{generation}"]'
        self.run("config", "set", "--path", "--secret", path, stdin=pem)

    def run(self, *command, stdin=None):
        result = self.project.capture(*command, stdin=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        KeySearch().check({f"what `{command[0]}` wrote": result.stdout + result.stderr})

    def up(self, **settings):
        """Deploy, and see that the next run has nothing to do."""
        self.configure(**settings)
        self.run(*UP)
        self.run(*UP, *NO_CHANGES)

    def refused(self, *command, **settings):
        """Return what is said when a command fails."""
        self.configure(**settings)
        result = self.project.capture(*(command or UP))
        said = result.stdout + result.stderr
        assert result.returncode != 0, said
        assert "Traceback" not in said, said
        return " ".join(said.split())

    def issuer_chain(self):
        """The chain that the Secret holds, without its root."""
        return read_bundle(content(get(self.cluster, ISSUER_SECRET))["tls.crt"])

    def leaf_verifies(self):
        """Whether the identity service signs under the bundle, seen from a proxy's side."""
        leaf = mesh.request_leaf(self.cluster, namespace="linkerd", service_account="default")
        roots = read_bundle(self.project.outputs()["trustAnchors"])
        return verify_chain(read_bundle(leaf.chain_pem), roots, datetime.now(UTC))


def get(cluster, path):
    with cluster.client() as api:
        response = api.get(path)
        assert response.is_success, response.text
        return response.json()


def names(cluster, path):
    with cluster.client() as api:
        response = api.get(path)
        return [entry["metadata"]["name"] for entry in response.json()["items"]] if response.is_success else []


def write(cluster, path, body):
    with cluster.client() as api:
        headers = {"Content-Type": "application/apply-patch+yaml"}
        response = api.patch(f"{path}?fieldManager=third-party&force=true", json=body, headers=headers)
        assert response.is_success, response.text
