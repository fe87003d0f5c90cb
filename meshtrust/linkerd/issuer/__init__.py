"""The identity issuer on a cluster: its certificate, and the Secret that holds it."""
