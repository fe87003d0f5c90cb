"""The pack: the rules, each as a policy of Pulumi's."""

from datetime import timedelta

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationPolicy,
)
from rules import anchor_key_on_no_cluster, issuer_duration, no_key_in_helm_values, signing_anchors_are_protected

# A week: longer than the default of two days, and much shorter than months.
_MAXIMUM_HOURS = 168


def _issuer_duration(args: ResourceValidationArgs, report: ReportViolation) -> None:
    issuer_duration(args, report, timedelta(hours=args.get_config().get("maxHours", _MAXIMUM_HOURS)))


PolicyPack(
    name="meshtrust",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        StackValidationPolicy(
            name="anchor-key-on-no-cluster",
            description="No Secret holds the key of a trust anchor.",
            validate=anchor_key_on_no_cluster,
        ),
        ResourceValidationPolicy(
            name="issuer-duration",
            description="The identity issuer lives no longer than maxHours.",
            validate=_issuer_duration,
            config_schema=PolicyConfigSchema(
                properties={"maxHours": {"type": "integer", "minimum": 1, "default": _MAXIMUM_HOURS}},
            ),
        ),
        ResourceValidationPolicy(
            name="no-key-in-helm-values",
            description="Linkerd takes the issuer's key from a Secret, and Helm's values have none.",
            validate=no_key_in_helm_values,
        ),
        StackValidationPolicy(
            name="signing-anchors-are-protected",
            description="Signing roots can be neither deleted nor replaced.",
            validate=signing_anchors_are_protected,
        ),
    ],
)
