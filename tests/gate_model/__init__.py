"""A model of a cluster with Linkerd, by which the gates of a rotation are tested.

`cluster` has the processes and what controllers do with them, `kubernetes` and `connections` serve it to the code under
test as a Kubernetes API server does, `oracle` knows which handshakes fail, `program` and `person` take the steps, and
`machine` mixes all of it at random. ``python -m tests.gate_model`` runs it for as many steps as are wanted.
"""
