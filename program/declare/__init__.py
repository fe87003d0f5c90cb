"""The resources of a run, declared from its plan: a module here reads neither configuration, cluster nor clock.

Where a resource must find something on the cluster first, it depends on an output of `program.wait`. A module here may
import `program.wait`, `program.checks` for the plan, and `components`.
"""
