"""The alerts, as a PrometheusRule has them: plain data, which promtool tests."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from components.observability import metrics
from meshtrust.names import IDENTITY_ISSUER, TRUST_ROOTS
from meshtrust.pki.durations import format_duration

# A kubelet brings a changed Secret into a pod within two minutes; a scrape and a slow node come on top.
_RELOAD = "15m"
# An hour after cert-manager should have acted it has failed more than once.
_OVERDUE = timedelta(hours=1)
_PAGE = "docs/rotation.md"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The installation that the alerts are about.

    Attributes:
        namespace: Namespace of Linkerd's control plane.
        by_cert_manager: Whether cert-manager issues the identity issuer, so that its metrics cover it.
        renewal: How much life the identity issuer has left when it is due for renewal.
        leaf_lifetime: How long a proxy's certificate lives.
    """

    namespace: str
    by_cert_manager: bool
    renewal: timedelta
    leaf_lifetime: timedelta


def alert_groups(watched: Watched) -> list[dict[str, Any]]:
    """Return the groups of rules.

    Thresholds follow from what is watched: an issuer that is renewed 25 hours before its end never has less than 24
    left while all is well, so that no alert is on for good, as a limit of days would be on a life of two.
    """
    groups = [
        {"name": IDENTITY_ISSUER, "rules": _issuer(watched)},
        {"name": "linkerd-proxies", "rules": _proxies(watched)},
        {"name": "meshtrust", "rules": _exported(watched)},
    ]
    if watched.by_cert_manager:
        groups[0]["rules"] = [*_issuer(watched), *_cert_manager(watched)]
    return groups


def _issuer(watched: Watched) -> list[dict[str, Any]]:
    left = f'min by (namespace) ({metrics.SERVED_TTL}{{namespace="{watched.namespace}"}})'
    overdue = watched.renewal - _OVERDUE
    critical = watched.renewal / 2
    return [
        _alert(
            "LinkerdIdentityIssuerRenewalOverdue",
            f"{left} < {_seconds(overdue)}",
            wait="15m",
            severity="warning",
            summary="The identity issuer in use should have been renewed by now",
            description=f"It has {{{{ $value | humanizeDuration }}}} left, and is renewed when it has "
            f"{format_duration(watched.renewal)}. See: meshtrust verify; kubectl describe certificate.",
        ),
        _alert(
            "LinkerdIdentityIssuerEnding",
            f"{left} < {_seconds(critical)}",
            wait="5m",
            severity="critical",
            summary="The identity issuer in use ends soon, and every proxy's certificate with it",
            description="It has {{ $value | humanizeDuration }} left. When it ends no proxy gets a certificate.",
        ),
        _alert(
            "LinkerdIdentityServiceUnseen",
            f'absent({metrics.SERVED_TTL}{{namespace="{watched.namespace}"}})',
            wait="15m",
            severity="warning",
            summary="No replica of the identity service is scraped",
            description="Either none runs, or Prometheus does not scrape port ident-admin; the other alerts are blind.",
        ),
    ]


def _cert_manager(watched: Watched) -> list[dict[str, Any]]:
    chosen = f'name="{IDENTITY_ISSUER}",namespace="{watched.namespace}"'
    served = f'{metrics.SERVED_TTL}{{namespace="{watched.namespace}"}}'
    return [
        _alert(
            "LinkerdIdentityMissedReload",
            # The moment of the scrape is added, not the present one: they are up to a scrape interval apart.
            f"abs((timestamp({served}) + {served}) - on (namespace) group_left () "
            f"max by (namespace) ({metrics.CERTIFICATE_END}{{{chosen}}})) > 60",
            wait=_RELOAD,
            severity="critical",
            summary="A replica of the identity service signs with another issuer than the Secret holds",
            description="{{ $labels.pod }} has missed the reload (linkerd2 issue 15109), and goes on until its issuer "
            "ends. Run: meshtrust heal.",
        ),
        _alert(
            "LinkerdIdentityIssuerNotReady",
            f'max by (namespace) ({metrics.CERTIFICATE_READY}{{{chosen},condition="True"}}) == 0',
            wait=_RELOAD,
            severity="warning",
            summary="cert-manager does not issue the identity issuer",
            description="Its Certificate has not been Ready for a while. See: kubectl describe certificate "
            f"{IDENTITY_ISSUER}.",
        ),
    ]


def _proxies(watched: Watched) -> list[dict[str, Any]]:
    # A proxy renews at 70 % of its certificate's life, so that half of what is then left means that it has not.
    limit = watched.leaf_lifetime * 0.15
    ends = f'min by (namespace, pod) ({{__name__=~"{metrics.LEAF_END}"}})'
    refused = f'{{__name__=~"{metrics.LEAF_REFRESHES}",result="error"}}'
    return [
        _alert(
            "LinkerdProxyCertificatesEnding",
            f"count by (namespace) ({ends} - time() < {_seconds(limit)})",
            wait="15m",
            severity="critical",
            summary="Proxies do not get new certificates",
            description="{{ $value }} proxies of namespace {{ $labels.namespace }} have less than "
            f"{format_duration(timedelta(seconds=_seconds(limit)))} left. See: meshtrust status.",
        ),
        _alert(
            "LinkerdProxyCertificatesRefused",
            f"sum by (namespace) (increase({refused}[30m])) > 0",
            wait="5m",
            severity="warning",
            summary="Proxies refuse the certificates that they are given",
            description="A proxy does so when its trust anchors are not those that sign. See: meshtrust verify.",
        ),
    ]


def _exported(watched: Watched) -> list[dict[str, Any]]:
    here = f'linkerd_namespace="{watched.namespace}"'
    step_ago = f"time() - meshtrust_phase_since_timestamp_seconds{{{here}}} > 7 * 86400"
    under_way = f'meshtrust_phase{{{here},phase=~"introduce|switch"}} == 1'
    stands = f"time() - meshtrust_rotation_since_timestamp_seconds{{{here}}} > 7 * 86400"
    waits = f"meshtrust_rotation_converged{{{here}}} == 0"
    ends = f"min by (context, generation) (meshtrust_root_not_after_timestamp_seconds{{{here}}}) - time()"
    return [
        _alert(
            "MeshtrustRotationStandsStill",
            # By the last step, too: a goal that is changed every day never stands for a week.
            f"(({stands}) and on (context) ({waits})) or (({step_ago}) and on (context) ({under_way}))",
            wait="1h",
            severity="warning",
            summary="A rotation of the trust anchor has not moved for a week",
            description="It has stood where it is for {{ $value | humanizeDuration }}. `meshtrust status` says what it "
            f"waits for. Put that right; or set the goal back: meshtrust abort ({_PAGE}).",
        ),
        _alert(
            "MeshtrustBundleDrift",
            f"max by (context) (meshtrust_bundle_drift{{{here}}}) == 1",
            wait=_RELOAD,
            severity="critical",
            summary="The trusted roots in the cluster are not those that were deployed",
            description=f"Someone changed ConfigMap {TRUST_ROOTS}. See: meshtrust verify.",
        ),
        _alert(
            "MeshtrustProxiesDoNotTrustTheSigner",
            f'max by (context, generation) (meshtrust_root_untrusting_proxies{{{here},signs="true"}}) > 0',
            wait=_RELOAD,
            severity="critical",
            summary="Proxies do not trust the anchor that signs",
            description="{{ $value }} proxies will refuse their next certificate. See: meshtrust verify.",
        ),
        _alert(
            "MeshtrustTrustAnchorEnding",
            f"{ends} < 60 * 86400",
            wait="1h",
            severity="warning",
            summary="A trust anchor ends within two months",
            description=f"{{{{ $labels.generation }}}} has {{{{ $value | humanizeDuration }}}} left. Rotate: {_PAGE}.",
        ),
        _alert(
            "MeshtrustTrustAnchorEndingSoon",
            f"{ends} < 14 * 86400",
            wait="1h",
            severity="critical",
            summary="A trust anchor ends within two weeks",
            description=f"{{{{ $labels.generation }}}} has {{{{ $value | humanizeDuration }}}} left. Rotate: {_PAGE}.",
        ),
        _alert(
            "MeshtrustExportStale",
            f"time() - max by (context) (meshtrust_export_timestamp_seconds{{{here}}}) > 3 * 3600",
            wait="15m",
            severity="warning",
            summary="What `meshtrust export` wrote is old",
            description="It was last written {{ $value | humanizeDuration }} ago, and the other alerts go by it.",
        ),
    ]


def _alert(
    name: str, expression: str, *, wait: str, severity: Literal["warning", "critical"], summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _seconds(duration: timedelta) -> int:
    return round(duration.total_seconds())
