"""What may refuse a run, before its first resource is registered; and what is seen before Linkerd is touched."""

from program.guard.admission import OFFLINE, Admission, admit

__all__ = ["OFFLINE", "Admission", "admit"]
