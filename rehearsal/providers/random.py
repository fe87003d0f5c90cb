"""pulumi-random's RandomId, as version 4.21.4 has it (terraform-provider-random internal/provider/resource_id.go)."""

import base64
import secrets
from typing import Any

from rehearsal.providers.generated import GeneratedProvider, Kind
from rehearsal.providers.values import Properties


def _identifier(inputs: dict[str, Any]) -> tuple[str, Properties]:
    raw = secrets.token_bytes(inputs["byteLength"])
    prefix = inputs.get("prefix") or ""
    url = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return url, {
        "b64Url": prefix + url,
        "b64Std": prefix + base64.b64encode(raw).decode(),
        "hex": prefix + raw.hex(),
        "dec": prefix + str(int.from_bytes(raw)),
    }


def provider() -> GeneratedProvider:
    """Return the random provider."""
    identifier = Kind(
        _identifier,
        computed=("b64Url", "b64Std", "hex", "dec"),
        required=("byteLength",),
        optional=("prefix", "keepers"),
    )
    return GeneratedProvider({"random:index/randomId:RandomId": identifier})
