"""The checks of a run: all that may refuse it, before its first resource is registered; they end in a `RunPlan`.

A module here reads settings, outputs and the cluster, and registers nothing. It may import `program.configuration` and
`meshtrust`, and neither what declares nor what waits.
"""

from program.checks.enrolment import check_enrolment
from program.checks.plan import CheckedStep, RunPlan
from program.checks.run import check_run

__all__ = ["CheckedStep", "RunPlan", "check_enrolment", "check_run"]
