"""Waits for cert-manager on a cluster where it does not answer."""

import asyncio

import pytest

from meshtrust.cluster import cert_manager
from rehearsal.connection import connect


def test_a_cert_manager_that_never_answers_is_told_with_where_to_look(cluster):
    async def ask():
        await cert_manager.wait_answers(await connect(cluster.context, str(cluster.kubeconfig)), "default", 0.1)

    with pytest.raises(cert_manager.CertManagerError, match=r"(?s)does not answer after .*kubectl -n default get pods"):
        asyncio.run(ask())
