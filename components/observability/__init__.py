"""What watches a mesh's credentials: alerts, what Prometheus scrapes for them, and a dashboard. Optional."""

from components.observability.alerts import Watched
from components.observability.component import Monitoring, Observability, ObservabilityArgs

__all__ = ["Monitoring", "Observability", "ObservabilityArgs", "Watched"]
