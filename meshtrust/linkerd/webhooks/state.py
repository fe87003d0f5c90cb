"""The CA that the API server trusts for each of Linkerd's webhooks, compared with what serves them."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from meshtrust.cluster.api import SECRETS, Api, ForbiddenError
from meshtrust.cluster.helm_release import owner_of
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE, VIZ, Webhook, is_under, read_served
from meshtrust.lint import Finding
from meshtrust.names import CERTIFICATE_ANNOTATION, INJECT_CA_ANNOTATION, LINKERD_CONTROL_PLANE
from meshtrust.pki.pem import PemError, fingerprint, normalise_bundle, read_bundle, subject_of, to_pem
from meshtrust.pki.private_key import read_private_key

# From here on `linkerd check` warns (linkerd2 pkg/issuercerts/issuercerts.go, expirationWarningThresholdInDays).
_EXPIRING_SOON = timedelta(days=60)
_MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True, kw_only=True)
class WebhookState:
    """One webhook as the cluster holds it.

    Attributes:
        webhook: The webhook.
        namespace: Namespace of its pods.
        configuration: The object that holds the CA that the API server trusts; None if there is none.
        secret: Its Secret; None if there is none, or it may not be read.
        secret_is_forbidden: Whether the Secret may not be read.
        served: What each pod that runs shows as its certificate and those above it, or why that cannot be seen.
        authorities: The authorities that ought to be trusted; None if no stack says.
    """

    webhook: Webhook
    namespace: str
    configuration: Mapping[str, Any] | None
    secret: Mapping[str, Any] | None
    secret_is_forbidden: bool
    served: Mapping[str, list[x509.Certificate] | str]
    authorities: Sequence[x509.Certificate] | None

    @property
    def _client_config(self) -> Mapping[str, Any]:
        if self.configuration is None:
            return {}
        if self.webhook.kind == "APIService":
            return self.configuration.get("spec") or {}
        webhooks: list[Mapping[str, Any]] = self.configuration.get("webhooks") or [{}]
        return webhooks[0].get("clientConfig") or {}

    @property
    def _secret_name(self) -> str:
        return f"Secret {self.namespace}/{self.webhook.secret}"

    @property
    def consequence(self) -> str:
        """Consequence if the API server's calls fail."""
        rules: list[Mapping[str, Any]] = (self.configuration or {}).get("webhooks") or [{}]
        is_closed = rules[0].get("failurePolicy", "Fail") == "Fail"
        return self.webhook.refuses if is_closed else self.webhook.passes

    def trusted(self) -> list[x509.Certificate]:
        """Return what the API server trusts.

        Raises:
            PemError: It is not a certificate.
        """
        return read_bundle(_decoded(self._client_config.get("caBundle") or ""))

    def held(self) -> list[x509.Certificate]:
        """Return what the Secret holds as the webhook's certificate, and those above it.

        Raises:
            PemError: It is not a certificate.
        """
        return read_bundle(_decoded(((self.secret or {}).get("data") or {}).get("tls.crt") or ""))

    def right_bundle(self) -> str:
        """Return the caBundle that the API server ought to have, as PEM; empty if it is right, or not known.

        The authorities of a stack are known. Of a certificate that Linkerd's chart has made it is that itself, which
        signs itself (linkerd2 charts/linkerd-control-plane/templates, genSelfSignedCert).
        """
        if self.configuration is None or self._is_injected:
            return ""
        try:
            trusted = self.trusted()
        except PemError:
            trusted = []
        right = list(self.authorities or ())
        if self.authorities is None:
            try:
                [own] = self.held()
                own.verify_directly_issued_by(own)
                right = [own]
            except (PemError, ValueError, TypeError, InvalidSignature):
                return ""
        if set(map(fingerprint, right)) == set(map(fingerprint, trusted)):
            return ""
        return normalise_bundle(*map(to_pem, right))

    @property
    def _is_injected(self) -> bool:
        """Whether cert-manager's CA injector writes the caBundle, and would undo what others write."""
        annotations = ((self.configuration or {}).get("metadata") or {}).get("annotations") or {}
        return any(key.startswith(INJECT_CA_ANNOTATION) for key in annotations)

    def judge(self, now: datetime, heal: str) -> Iterator[Finding]:
        """Say what is wrong on either side: what the API server trusts, and what the Secret and the pods have.

        Args:
            now: The time.
            heal: The command that heals a cluster.

        Source: linkerd2 ``pkg/healthcheck/healthcheck.go``, CheckCertAndAnchors, for the two sides and the name.
        """
        webhook = self.webhook
        if self.configuration is None:
            yield Finding(
                subject=webhook.name,
                wrong=f"is not there, so that the API server never asks {webhook.service}: {webhook.passes}",
                fix=self._write_again(),
            )
            return
        try:
            trusted = self.trusted()
        except PemError as error:
            trusted = []
            fix = self._set_right(heal)
            yield self._broken(f"has a caBundle that the API server cannot use ({error})", fix)
        for root in trusted:
            if root.not_valid_after_utc <= now:
                wrong = f"trusts {subject_of(root)}, which ended on {root.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
                yield self._broken(wrong, self._set_right(heal))
        yield from self._judge_secret(trusted, now, heal)
        yield from self._judge_served(trusted, now, heal)

    def _judge_secret(self, trusted: list[x509.Certificate], now: datetime, heal: str) -> Iterator[Finding]:
        if self.secret_is_forbidden:
            return
        if self.secret is None:
            yield self._failing(self._secret_name, "is not there, and no pod can start that serves it", self._renew())
            return
        try:
            held = self.held()
        except PemError as error:
            yield self._failing(self._secret_name, f"holds no certificate in tls.crt ({error})", self._renew())
            return
        first = held[0]
        left = first.not_valid_after_utc - now
        if left <= timedelta():
            wrong = f"holds a certificate that ended on {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            yield self._failing(self._secret_name, wrong, self._renew())
        elif left < _EXPIRING_SOON and CERTIFICATE_ANNOTATION not in (
            (self.secret.get("metadata") or {}).get("annotations") or {}
        ):
            yield Finding(
                subject=self._secret_name,
                wrong=f"holds a certificate that ends in {left.days} days, which cert-manager does not renew",
                fix=self._renew(),
                severity="warning",
            )
        if self._host not in _names(first):
            listed = ", ".join(_names(first)) or "none"
            wrong = f"holds a certificate for other names ({listed}) than {self._host}"
            yield self._failing(self._secret_name, wrong, self._renew())
        if not _has_key(self.secret, first):
            yield self._failing(self._secret_name, "holds a key that is not its certificate's", self._renew())
        if trusted and not is_under(held, trusted):
            yield self._mismatch(f"{self._secret_name} holds a certificate", held, trusted, heal)

    def _judge_served(self, trusted: list[x509.Certificate], now: datetime, heal: str) -> Iterator[Finding]:
        held = set()
        if self.secret is not None:
            try:
                held = {fingerprint(self.held()[0])}
            except PemError:
                return
        for pod, shown in self.served.items():
            subject = f"{self.namespace}/{pod}"
            if isinstance(shown, str) or not shown:
                continue
            if held and fingerprint(shown[0]) not in held:
                wrong = f"serves {self.webhook.service} with another certificate than {self._secret_name} holds"
                is_well = not trusted or is_under(shown, trusted)
                yield Finding(
                    subject=subject,
                    wrong=wrong
                    + (" (a pod loads a new one within two minutes)" if is_well else f": {self.consequence}"),
                    fix=f"Restart it if that stays: kubectl -n {self.namespace} delete pod {pod}",
                    severity="warning" if is_well else "error",
                )
            elif not held and trusted and not is_under(shown, trusted):
                yield self._mismatch(f"{subject} serves a certificate", shown, trusted, heal)
            elif not held and shown[0].not_valid_after_utc <= now:
                wrong = f"serves {self.webhook.service} with a certificate that has ended"
                yield self._failing(subject, wrong, self._renew())

    def _mismatch(
        self, whose: str, shown: list[x509.Certificate], trusted: list[x509.Certificate], heal: str
    ) -> Finding:
        """Return the finding of two sides that do not fit, with the side that is to be put right."""
        listed = ", ".join(subject_of(root) or fingerprint(root)[:12] for root in trusted)
        wrong = (
            f"trusts {listed} in its caBundle, and {whose} of another authority "
            f"({shown[0].issuer.rfc4514_string()}), so that every call fails: {self.consequence}"
        )
        is_right = self.authorities is not None and not self._is_injected and not self.right_bundle()
        return Finding(
            subject=self.webhook.name,
            wrong=wrong,
            fix=self._renew() if is_right else self._set_right(heal),
        )

    def _broken(self, wrong: str, fix: str) -> Finding:
        return self._failing(self.webhook.name, wrong, fix)

    def _failing(self, subject: str, wrong: str, fix: str) -> Finding:
        return Finding(subject=subject, wrong=f"{wrong}, so that every call fails: {self.consequence}", fix=fix)

    @property
    def _host(self) -> str:
        return f"{self.webhook.service}.{self.namespace}.svc"

    def _set_right(self, heal: str) -> str:
        if self._is_injected:
            return "See what keeps cert-manager's CA injector, which writes it: kubectl -n cert-manager get pods"
        return f"Set the caBundle right: {heal}" if self.right_bundle() else self._write_again()

    def _write_again(self) -> str:
        _, release = owner_of(self.configuration) if self.configuration else ("", "")
        release = release or (LINKERD_CONTROL_PLANE if self.webhook in CONTROL_PLANE else "linkerd-viz")
        return f"Have Helm write it again as it was deployed: helm rollback {release} --namespace {self.namespace}"

    def _renew(self) -> str:
        annotations = ((self.secret or {}).get("metadata") or {}).get("annotations") or {}
        if self.authorities is not None or CERTIFICATE_ANNOTATION in annotations:
            return (
                "Delete the Secret, which cert-manager then issues again: kubectl "
                f"-n {self.namespace} delete secret {self.webhook.secret}"
            )
        return self._write_again()


async def read_webhooks(
    api: Api, namespace: str, authorities: Sequence[x509.Certificate] | None, viz_namespace: str = ""
) -> list[WebhookState]:
    """Return what a cluster holds of each webhook of the control plane, and of linkerd-viz where that is installed.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        authorities: The authorities that a stack had the webhooks' certificates signed under; None if it had not.
        viz_namespace: Namespace of linkerd-viz; empty if it is not installed.

    Raises:
        ForbiddenError: These credentials may not read the objects or the pods.
        ClusterError: They cannot be read.
    """
    states = [await _read_webhook(api, namespace, webhook, authorities) for webhook in CONTROL_PLANE]
    if viz_namespace:
        # Whether they are under the stack's authorities is not known here: each is judged by what goes with it.
        states += [await _read_webhook(api, viz_namespace, webhook, None) for webhook in VIZ]
    return states


async def set_right(api: Api, state: WebhookState) -> None:
    """Have the API server trust what it ought to for a webhook, which `WebhookState.right_bundle` knows.

    Raises:
        ConflictError: The object was changed meanwhile.
        ClusterError: It cannot be changed.
    """
    bundle = base64.b64encode(state.right_bundle().encode()).decode()
    held = state.configuration or {}
    changed: dict[str, Any] = {"metadata": {"resourceVersion": held["metadata"]["resourceVersion"]}}
    if state.webhook.kind == "APIService":
        changed["spec"] = {"caBundle": bundle}
    else:
        # A merge patch replaces the whole list, so that it must be the one that was read.
        changed["webhooks"] = [
            {**entry, "clientConfig": {**entry["clientConfig"], "caBundle": bundle}} for entry in held["webhooks"]
        ]
    await api.patch(state.webhook.resource, state.webhook.configuration, changed)


async def _read_webhook(
    api: Api, namespace: str, webhook: Webhook, authorities: Sequence[x509.Certificate] | None
) -> WebhookState:
    configuration = await api.find(webhook.resource, webhook.configuration)
    secret, is_forbidden = None, False
    try:
        secret = await api.find(SECRETS, webhook.secret, namespace=namespace)
    except ForbiddenError:
        is_forbidden = True
    return WebhookState(
        webhook=webhook,
        namespace=namespace,
        configuration=configuration,
        secret=secret,
        secret_is_forbidden=is_forbidden,
        served={pod: shown async for pod, shown in read_served(api, namespace, webhook)},
        authorities=authorities,
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _has_key(secret: Mapping[str, Any], certificate: x509.Certificate) -> bool:
    try:
        key = read_private_key(_decoded((secret.get("data") or {}).get("tls.key") or ""))
    except ValueError:
        return False
    return key.public_key() == certificate.public_key()


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise PemError(str(error)) from error
