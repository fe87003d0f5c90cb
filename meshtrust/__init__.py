"""The rules of mesh credentials, the evidence in clusters, and the commands; independent of Pulumi."""
