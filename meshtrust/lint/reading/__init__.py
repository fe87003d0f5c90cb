"""Files for the linter: YAML documents, PEM blocks, Kustomize, and the schemas of objects."""
