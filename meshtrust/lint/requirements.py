"""Keys, signatures and lifetimes that Linkerd requires, each written once."""

from datetime import timedelta

# linkerd2 charts/linkerd-control-plane/values.yaml: identity.issuer.issuanceLifetime and clockSkewAllowance.
LEAF_LIFETIME, CLOCK_SKEW = timedelta(hours=24), timedelta(seconds=20)

# linkerd2 pkg/issuercerts/issuercerts.go: keys of a trust anchor, and signatures by the kind of key.
P256 = "ECDSA on secp256r1"
ANCHOR_KEYS = (P256, "RSA of 2048 bits", "RSA of 4096 bits")
ECDSA_SIGNATURES, RSA_SIGNATURES = ("ECDSA-SHA256", "SHA256-RSA"), ("SHA256-RSA",)
