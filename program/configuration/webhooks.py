"""What a stack says of the webhooks' certificates."""

from components.webhook_certificates import WebhookPolicy
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, IssuerMode
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.names import choose_signer, read_names
from program.configuration.reader import Reader


def read_webhooks(reader: Reader, issuer_mode: IssuerMode, last: StackOutputs) -> WebhookPolicy | None:
    """Return under whose authority the webhooks' certificates are; nothing where Linkerd's chart makes them.

    Not configured, they stay with whom they were with at the last deployment.
    """
    authorities = read_names(reader, "webhooks.authorities", "1")
    signer = reader.optional_name("webhooks.signer")
    policy = WebhookPolicy(
        authorities=authorities,
        signer=choose_signer(reader, "webhooks.signer", signer, "webhooks.authorities", authorities),
        viz_namespace=reader.dns_label("webhooks.vizNamespace", may_be_empty=True),
    )
    mode = reader.choice("webhooks.mode", ("", "chart", "cert-manager"))
    if not mode:
        by_cert_manager = last.webhooks.by_cert_manager if last.trust else issuer_mode in CERT_MANAGER_MODES
        mode = "cert-manager" if by_cert_manager else "chart"
    return policy if mode == "cert-manager" else None
