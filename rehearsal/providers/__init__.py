"""Stand-ins for the providers that the program uses, as plugins over Pulumi's provider protocol.

`kubernetes` (with `helm.sh/v3:Release`), `tls` and `random` are in no package registry as programs. These three follow
the real ones' rules for what the program declares, each with its source in its module. The real plugin is used where it
is installed.
"""
