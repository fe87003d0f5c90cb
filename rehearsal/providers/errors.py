"""Errors of a provider, which the engine shows with the resource that they are about."""

from rehearsal.providers.values import Properties


class ProviderError(Exception):
    """A provider cannot do what is asked of it."""


class CheckError(ProviderError):
    """Inputs are not acceptable.

    Attributes:
        failures: Pairs of a property, or an empty text, and the reason.
    """

    def __init__(self, failures: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(reason for _, reason in failures))
        self.failures = failures


class InitError(ProviderError):
    """A resource exists but did not become ready; its state is kept.

    Attributes:
        resource_id: Its id.
        outputs: What is known of it.
        reasons: The failures one by one.
    """

    def __init__(self, message: str, *, resource_id: str, outputs: Properties, reasons: list[str]) -> None:
        super().__init__(message)
        self.resource_id = resource_id
        self.outputs = outputs
        self.reasons = reasons
