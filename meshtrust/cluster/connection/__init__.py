"""Connections to a cluster: kubeconfig files, credentials, the client, port-forwards, and checks before a run."""
