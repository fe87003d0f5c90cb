"""Fields of a kubeconfig's cluster and user that a connection reads, with the types and pairs that kubectl requires.

Source: client-go ``tools/clientcmd/api/v1/types.go`` for names and types; ``tools/clientcmd/validation.go`` and
``rest/transport.go`` for what goes together.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

_PROXIES = ("http", "https", "socks5")
_WRONG = {
    "bool_type": "is not true or false",
    "dict_type": "is not a map",
    "list_type": "is not a list",
    "literal_error": "is not one of Never, IfAvailable, Always",
    "missing": "is missing",
    "model_type": "is not a map",
    "string_too_short": "is empty",
    "string_type": "is not text",
}


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, hide_input_in_errors=True, alias_generator=_kebab)


class _Cluster(_Fields):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    proxy_url: str = ""
    tls_server_name: str = ""

    @field_validator("server")
    @classmethod
    def _check_server(cls, server: str) -> str:
        return _address(server, ("http", "https"))

    @field_validator("proxy_url")
    @classmethod
    def _check_proxy(cls, proxy: str) -> str:
        return _address(proxy, _PROXIES) if proxy else ""

    @model_validator(mode="after")
    def _check_verification(self) -> Self:
        if self.insecure_skip_tls_verify and (self.certificate_authority or self.certificate_authority_data):
            wrong = "has insecure-skip-tls-verify and a certificate-authority, of which one has to go"
            raise ValueError(wrong)
        return self


class _Variable(_Fields):
    name: str = Field(min_length=1)
    value: str = ""


class _Command(_Fields):
    api_version: str = Field(alias="apiVersion")
    command: str = Field(min_length=1)
    args: list[str] = []
    env: list[_Variable] = []
    install_hint: str = Field(alias="installHint", default="")
    interactive_mode: Literal["", "Never", "IfAvailable", "Always"] = Field(alias="interactiveMode", default="")
    provide_cluster_info: bool = Field(alias="provideClusterInfo", default=False)

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        # Earlier versions have a default (client-go ``tools/clientcmd/api/v1/defaults.go``).
        if self.api_version == "client.authentication.k8s.io/v1" and not self.interactive_mode:
            wrong = f"has no interactiveMode, which {self.api_version} requires: set it to IfAvailable"
            raise ValueError(wrong)
        return self


class _Provider(_Fields):
    name: str
    config: dict[str, str] = {}


class _User(_Fields):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = Field(alias="tokenFile", default="")
    username: str = ""
    password: str = ""
    impersonate: str = Field(alias="as", default="")
    as_uid: str = ""
    as_groups: list[str] = []
    as_user_extra: dict[str, list[str]] = {}
    auth_provider: _Provider | None = None
    exec: _Command | None = None

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        has_certificate = bool(self.client_certificate or self.client_certificate_data)
        if has_certificate and not (self.client_key or self.client_key_data):
            wrong = "has a client-certificate without its client-key"
            raise ValueError(wrong)
        return self


def find_mistake(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> str:
    """Return what kubectl would not take in a kubeconfig's cluster and user; empty if nothing.

    The answer names the field and repeats no value, which may be a secret.

    Args:
        cluster: The cluster's entry, without nulls.
        user: The user's entry, likewise.
    """
    for kind, model, entry in (("cluster", _Cluster, cluster), ("user", _User, user)):
        try:
            model.model_validate(entry)
        except ValidationError as error:
            [first, *_] = error.errors(include_url=False, include_input=False)
            field = ".".join(str(part) for part in first["loc"])
            of = f"{field} of its {kind}" if field else f"its {kind}"
            wrong = first["ctx"]["error"] if first["type"] == "value_error" else _WRONG[first["type"]]
            return f"{of} {wrong}"
    return ""


def _address(text: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not text.split()[1:]
    except ValueError:
        is_address = False
    if not is_address:
        listed = " or ".join(f"{scheme}://" for scheme in schemes)
        msg = f"is not an address with {listed}"
        raise ValueError(msg)
    return text
