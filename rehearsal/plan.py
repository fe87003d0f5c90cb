"""The plan of a stack as a person wants to see it: the chain it makes, the resources in order, what each stands for."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from rehearsal.workspace import RehearsalError, Workspace

# What a resource stands for, by its type; a Release by the name of its chart.
_MEANING = {
    "random:index/randomId:RandomId": "a short id in the root's subject, by which a person tells two roots apart",
    "tls:index/privateKey:PrivateKey": "an ECDSA P-256 key, in the stack's encrypted state",
    "tls:index/selfSignedCert:SelfSignedCert": "the root that every proxy trusts",
    "tls:index/certRequest:CertRequest": "what the next is signed from",
    "tls:index/locallySignedCert:LocallySignedCert": "the {subject}, signed by the root",
    "kubernetes:core/v1:Namespace": "the namespace {name}",
    "kubernetes:core/v1:Secret": "what {reader} signs with: {namespace}/{name}",
    "kubernetes:cert-manager.io/v1:Issuer": "cert-manager's issuer on that Secret",
    "kubernetes:cert-manager.io/v1:Certificate": (
        "the identity issuer: cert-manager issues it into Secret {namespace}/{secretName} and renews it by itself"
    ),
    "pulumi:providers:kubernetes": "the cluster: context {context}",
    "cert-manager": "cert-manager, up once its API answers",
    "linkerd-crds": "Linkerd's CRDs",
    "linkerd-control-plane": "Linkerd's control plane, under the trusted roots",
    "trust-manager": "trust-manager, which publishes the trusted roots",
    "kubernetes:trust.cert-manager.io/v1alpha1:Bundle": "the trusted roots, as trust-manager publishes them to Linkerd",
}
# What differs of the webhooks' certificates, which have an authority of their own.
_WEBHOOKS = "webhooks-"
_MEANING_FOR_WEBHOOKS = {
    "tls:index/selfSignedCert:SelfSignedCert": "the authority of the webhooks' certificates, which no proxy trusts",
    "kubernetes:cert-manager.io/v1:Certificate": (
        "the certificate of webhook {name}: cert-manager issues it into Secret {namespace}/{secretName} and renews it"
    ),
}
_RELEASE = "kubernetes:helm.sh/v3:Release"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One resource of a plan.

    Attributes:
        operation: What the engine would do: create, same, update, replace, delete.
        type: Its type token.
        name: Its name in the program.
        inputs: Its inputs; secrets are masked.
    """

    operation: str
    type: str
    name: str
    inputs: Mapping[str, Any]

    @property
    def meaning(self) -> str:
        """What it stands for."""
        chart = str(self.inputs.get("name", "")) if self.type == _RELEASE else ""
        facts = {**self.inputs, **self.inputs.get("metadata", {}), **self.inputs.get("spec", {})}
        facts["subject"] = "intermediate CA of this cluster" if "maxPathLength" in facts else "identity issuer"
        facts["reader"] = "Linkerd" if facts.get("name") == "linkerd-identity-issuer" else "cert-manager"
        meaning = {**_MEANING, **_MEANING_FOR_WEBHOOKS} if self.name.startswith(_WEBHOOKS) else _MEANING
        return meaning.get(chart or self.type, "").format_map(_Facts(facts))


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"


@dataclass(frozen=True)
class Plan:
    """What a run of a stack would do.

    Attributes:
        steps: The resources that do something, in the order in which the engine comes to them.
        config: The stack's configuration with its defaults, as the program reads it.
    """

    steps: list[Step]
    config: Mapping[str, Any]

    def signing_secret(self) -> Step | None:
        """Return the step that makes the Secret which the identity issuer is signed with, or is in."""
        secrets = (step for step in self.steps if step.type == "kubernetes:core/v1:Secret")
        return next((step for step in secrets if not step.name.startswith(_WEBHOOKS)), None)


def make_plan(workspace: Workspace) -> Plan:
    """Ask the engine what a run would do.

    Raises:
        RehearsalError: The program refuses the stack; the message is the program's.
    """
    result = workspace.capture("preview", "--json")
    try:
        preview = json.loads(result.stdout)
    except ValueError:
        raise RehearsalError(result.stderr.strip() or result.stdout.strip()) from None
    if result.returncode:
        errors = [entry["message"] for entry in preview.get("diagnostics", []) if entry["severity"] == "error"]
        raise RehearsalError("\n".join(errors[:1]) or result.stderr.strip())
    return read_plan(preview)


def read_plan(preview: Mapping[str, Any]) -> Plan:
    """Read what `pulumi preview --json` writes."""
    steps = []
    for entry in preview["steps"]:
        state = entry.get("newState") or entry.get("oldState") or {}
        if state.get("custom") and not state["type"].startswith("pulumi:pulumi:"):
            name = entry["urn"].rpartition("::")[2]
            inputs = state.get("inputs", {})
            steps.append(Step(operation=entry["op"], type=state["type"], name=name, inputs=inputs))
    return Plan(steps, {key.partition(":")[2]: _value(text) for key, text in preview["config"].items()})


def _value(text: str) -> Any:
    """Return a configured map or list; anything else is the text that it was written as."""
    return json.loads(text) if text.startswith(("{", "[")) else text


def show_plan(plan: Plan, stack: str, console: Console) -> None:
    """Draw a plan."""
    console.print(
        Panel(_chain(plan), title=f"[bold]stack {stack}: the chain it makes[/]", expand=False, padding=(1, 2))
    )
    console.print(_table(plan.steps))
    counts: dict[str, int] = {}
    for step in plan.steps:
        counts[step.operation] = counts.get(step.operation, 0) + 1
    console.print(", ".join(f"{count} to {operation}" for operation, count in sorted(counts.items())) + ". ", end="")
    console.print("Nothing was changed, and no cluster was asked.")


def _chain(plan: Plan) -> RenderableType:
    config = plan.config
    issuer, anchor = config["issuer"], config["anchor"]
    domain, namespace = config["trustDomain"], config["linkerd"]["namespace"]
    signer = config["signer"] or config["anchors"][0]
    mode, made_here = issuer["mode"], signer not in config["anchorCertificates"]
    secret = plan.signing_secret()
    on_cluster = f"Secret {namespace}/{secret.inputs['metadata']['name'] if secret else '?'}"
    key_of_anchor = {
        "anchor": on_cluster,
        "external-issuer": "elsewhere",
        "external-secret": "elsewhere",
    }.get(mode, "only in the stack's encrypted state")
    about_anchor = f"CN=root.linkerd.{domain}, {anchor['validityDays']} days" if made_here else "made elsewhere"
    tree = branch = Tree(_link(f"trust anchor {signer}", about_anchor, key_of_anchor), guide_style="dim")
    if config["role"] == "anchor":
        branch.add(Text(f"the intermediates of {', '.join(config['clusters'])}, once they have asked", style="cyan"))
        return tree
    if mode == "intermediate":
        branch = branch.add(
            _link("intermediate", f"CN=intermediate.linkerd.{domain}, a day less than its root", on_cluster)
        )
    branch = branch.add(_link("identity issuer", *_issuer(issuer, domain, signer, namespace)))
    branch.add(_link("leaf of each proxy", "24h, renewed by the proxy", "in the proxy's memory"))
    others = [generation for generation in config["anchors"] if generation != signer]
    trusted = Text(f"also trusted: {', '.join(others)}", style="yellow") if others else Text()
    return Group(tree, trusted) if others else tree


def _issuer(issuer: Mapping[str, Any], domain: str, signer: str, namespace: str) -> tuple[str, str]:
    """Return what is to be told of the identity issuer, and where its key is."""
    name, secret = f"CN=identity.linkerd.{domain}", f"Secret {namespace}/linkerd-identity-issuer"
    if issuer["mode"] == "external-secret":
        return "signed and renewed by a third party", f"{secret}, which only the third party writes"
    if issuer["mode"] == "pulumi":
        about = f"{name}, {issuer['validityDays']} days, renewed by another issuer.serial"
        return about, f"{secret}, and the stack's encrypted state"
    about = f"{name}, {issuer['duration']}, renewed {issuer['renewBefore']} before its end"
    if issuer["mode"] == "external-issuer":
        reference = issuer["refs"][signer]
        about += f", by {reference.get('kind', 'Issuer')} {reference['name']}"
    return about, f"{secret}, which only cert-manager writes"


def _link(title: str, about: str, key: str) -> Text:
    return Text.assemble((title, "bold cyan"), f"  {about}\n", ("key: ", "dim"), (key, "green"))


def _table(steps: Iterable[Step]) -> Table:
    table = Table(title="resources, in order", title_style="bold", title_justify="left", show_header=False, box=None)
    table.add_column(justify="right", style="dim")
    table.add_column(style="green")
    table.add_column()
    marks = {"create": "+", "update": "~", "delete": "-", "same": " "}
    for number, step in enumerate(steps, start=1):
        resource = Text(f"{step.type.rpartition(':')[2]} {step.name}", style="dim", no_wrap=True, overflow="ellipsis")
        table.add_row(str(number), marks.get(step.operation, "+-"), Group(Text(step.meaning), resource))
    return table
