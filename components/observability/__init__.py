"""Monitoring of a mesh's credentials: alerts, the scrape targets that they need, and a dashboard. Optional."""

from components.observability.alerts import Watched
from components.observability.component import Monitoring, Observability, ObservabilityArgs

__all__ = ["Monitoring", "Observability", "ObservabilityArgs", "Watched"]
