"""An Issuer of cert-manager on a CA that this program holds the key of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.tls_secret import tls_data
from meshtrust.names import CERT_MANAGER_API, KUBERNETES_TLS


@dataclass(frozen=True, kw_only=True)
class CaCertificate:
    """A Certificate under a CA that this program holds the key of, so that it could sign it itself.

    Attributes:
        secret: Name of the Secret that cert-manager writes.
        spec: The Certificate's spec.
        chain: The CA's certificate, and its root where that is another, as PEM.
        key: The CA's key as PEM.
    """

    secret: str
    spec: pulumi.Input[Mapping[str, Any]]
    chain: pulumi.Output[str]
    key: pulumi.Output[str] = field(repr=False)


def declare_ca_issuer(
    name: str,
    ca_name: str,
    namespace: pulumi.Input[str],
    *,
    chain: pulumi.Output[str],
    key: pulumi.Output[str],
    opts: pulumi.ResourceOptions,
) -> pulumi.Resource:
    """Declare a CA Secret, and return the Issuer on it, which may not be Ready.

    The name contains the CA's generation: a Certificate whose ``issuerRef`` changed is issued again at once,
    while one whose CA changed under the same name is not (cert-manager issue 5558).

    Pulumi's provider waits for none of cert-manager's objects that Linkerd needs: it would wait for ten minutes,
    whatever the settings say, and give no reason that the object itself does not have. The run waits (program/wait).

    Args:
        name: Beginning of the resources' names.
        ca_name: Name of the Secret and of the Issuer.
        namespace: Their namespace, which exists.
        chain: The CA's certificate, and its root where that is another, as PEM.
        key: The CA's key as PEM.
        opts: Parent and dependencies.
    """
    secret = kubernetes.core.v1.Secret(
        f"{name}-ca",
        # What something else has written into it, this stack takes back: nothing else may say what the CA is.
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            name=ca_name, namespace=namespace, annotations={"pulumi.com/patchForce": "true"}
        ),
        type=KUBERNETES_TLS,
        data=tls_data(chain, key),
        opts=opts,
    )
    return kubernetes.apiextensions.CustomResource(
        f"{name}-issuer",
        api_version=CERT_MANAGER_API,
        kind="Issuer",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=ca_name, namespace=namespace),
        spec={"ca": {"secretName": secret.metadata["name"]}},
        opts=opts,
    )
