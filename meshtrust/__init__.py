"""What has nothing to do with Pulumi: the rules of mesh credentials, and what a cluster really holds."""
