"""Relations between what was read: Helm values and their installation, issuers and what they sign with."""
