"""The embedded deployment engine: runs an unmodified Pulumi program without the Pulumi CLI.

It answers the SDK's own gRPC protocol, keeps state in the real CLI's file-backend layout, and serves the providers
tls, random and kubernetes. It is a stand-in, for rehearsals and tests only: where it differs from the real engine,
the real engine (github.com/pulumi/pulumi, version 3.272.0) is right.
"""
