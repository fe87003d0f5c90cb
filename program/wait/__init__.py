"""The waits of a run: what a resource must find on the cluster before it is changed, and the whole before the run ends.

A wait takes the plan and the resources that it follows, and returns a plain value: an output on which the next resource
depends. A module here reads the cluster, may end a run, and registers nothing. It may import `program.checks`.
"""
