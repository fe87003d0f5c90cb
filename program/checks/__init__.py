"""What may refuse a run, before its first resource is registered; and what is seen before Linkerd is touched."""

from program.guard.admission import Admission, admit
from program.guard.announcement import check_announced

__all__ = ["Admission", "admit", "check_announced"]
