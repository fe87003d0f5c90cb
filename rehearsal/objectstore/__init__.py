"""A server of S3's API beside a rehearsal cluster, for Pulumi's state: gofakes3, which keeps all in memory."""

from pathlib import Path

import httpx

from rehearsal.cluster import Cluster
from rehearsal.cluster.components import Process, free_ports

NAME = "s3"


def declare(directory: Path) -> Process:
    """Return the server's process for `Cluster.start`, and keep its address in the cluster's directory.

    Args:
        directory: The cluster's directory.
    """
    [port] = free_ports(1)
    (directory / "s3.address").write_text(f"127.0.0.1:{port}")
    return Process(NAME, [NAME, f"--address=127.0.0.1:{port}"])


class Bucket:
    """A bucket of the server that runs beside a cluster.

    Attributes:
        name: Its name.
        url: Its URL.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._address = (cluster.directory / "s3.address").read_text()
        self.name = name
        self.url = f"http://{self._address}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Pulumi keeps its state in the bucket; the server takes any credentials."""
        query = f"endpoint=http://{self._address}&s3ForcePathStyle=true&region=eu-central-1"
        return {
            "PULUMI_BACKEND_URL": f"s3://{self.name}?{query}",
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make(self) -> None:
        """Make the bucket."""
        httpx.put(self.url, trust_env=False).raise_for_status()

    def objects(self) -> list[str]:
        """Return the names of what is in it."""
        listed = httpx.get(self.url, trust_env=False).raise_for_status().text
        return [entry.partition("</Key>")[0] for entry in listed.split("<Key>")[1:]]

    def delete(self, name: str) -> None:
        """Delete an object, of which nothing is left: the bucket keeps no versions."""
        httpx.delete(f"{self.url}/{name}", trust_env=False).raise_for_status()

    def copy(self, source: str, target: str) -> None:
        """Write an object once more under another name."""
        httpx.put(f"{self.url}/{target}", content=self.read(source), trust_env=False).raise_for_status()

    def read(self, name: str) -> str:
        """Return the text of an object."""
        return httpx.get(f"{self.url}/{name}", trust_env=False).raise_for_status().text
