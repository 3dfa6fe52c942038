"""The one door to the API server: plain dicts in and out, over the asyncio client of the kubernetes package.

The client library brings where the server is, who we are (and a token that is renewed), TLS, and one pool of
connections. Its thousands of generated classes are not needed: an object is a dict, a kind is a path.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from batchyard_operator.act.errors import Conflict, NotThere, Refused, Unavailable

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
MANAGER = "batchyard"
PATIENCE = 15.0
"""Seconds that one request may take, once it is its turn."""

AT_ONCE = 16
_PAGE = 500
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_REFUSED = (400, 403, 405, 413, 415, 422)


def uses_kubeconfig() -> bool:
    """Whether we are told by a kubeconfig where the API server is: a variable says so, or we are in no pod."""
    return bool(os.environ.get("KUBECONFIG")) or not _SERVICE_ACCOUNT.exists()


class Door:
    """Requests to the API server, a bounded number at once. Use ``open``.

    Every method raises NotThere, Conflict, Refused and Unavailable, and nothing of a library's.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._at_once = asyncio.Semaphore(AT_ONCE)

    @classmethod
    async def open(cls) -> "Door":
        """Return a door to the API server that the kubeconfig or, in a pod, the service account names."""
        settings = Configuration()
        if uses_kubeconfig():
            await config.load_kube_config(client_configuration=settings, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=settings)
        settings.connection_pool_maxsize = AT_ONCE
        settings.client_session_kwargs = {"trust_env": False}  # as the watches: no proxy on the way to the API server
        return cls(ApiClient(settings))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    # --- plain requests ---
    async def get(self, path: str, query: Mapping[str, str] | None = None, *, accept: str = "") -> dict[str, Any]:
        """Return an object or a list."""
        return await self._request("GET", path, query, accept=accept)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; raises Conflict when one of its name is there."""
        return await self._request("POST", path, {"fieldManager": MANAGER}, body)

    async def patch(self, path: str, body: Any, kind: str = MERGE) -> dict[str, Any]:
        """Change an object; a body of kind JSON whose test fails is Refused."""
        return await self._request("PATCH", path, {"fieldManager": MANAGER}, body, kind)

    async def delete(self, path: str, uid: str, *, propagation: str, grace: int | None = None) -> None:
        """Delete the object of this uid; one that is gone already, or is another one, is fine."""
        options: dict[str, Any] = {"propagationPolicy": propagation, "preconditions": {"uid": uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._request("DELETE", path, None, options)
        except (NotThere, Conflict):
            return

    async def metadata(self, path: str, selector: str = "") -> AsyncIterator[dict[str, Any]]:
        """Yield the metadata of every object of a list, a page at a time."""
        query = {"limit": str(_PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self.get(path, query, accept=_METADATA)
            for item in page.get("items") or ():
                yield item["metadata"]
            more = page.get("metadata", {}).get("continue")
            if not more:
                return
            query["continue"] = more

    # --- the wire ---
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        kind: str = "application/json",
        accept: str = "",
    ) -> dict[str, Any]:
        async with self._at_once:
            try:
                async with asyncio.timeout(PATIENCE):
                    status, raw = await self._send(method, path, query, body, kind, accept)
            except TimeoutError:
                raise Unavailable(f"the API server did not answer within {PATIENCE:g} s") from None
            except (aiohttp.ClientError, OSError) as error:
                raise Unavailable(f"the API server cannot be reached: {type(error).__name__}") from error
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError:
            answer = {}
        if 200 <= status < 300 and isinstance(answer, dict):
            return answer
        raise _error(status, answer, f"{method} {path}")

    async def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, kind: str, accept: str
    ) -> tuple[int, bytes]:
        headers = {"Accept": accept or "application/json", "Content-Type": kind}
        prepared = await self._client.param_serialize(
            method,
            f"{path}?{urlencode(query)}" if query else path,
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        _, url, sent, _, _ = prepared
        patience = aiohttp.ClientTimeout(total=PATIENCE)
        answer = await self._client.call_api(method, url, header_params=sent, body=body, _request_timeout=patience)
        return answer.status, await answer.read()


def _error(status: int, answer: Any, what: str) -> Exception:
    said = answer.get("message") if isinstance(answer, dict) else None
    message = str(said or f"{what}: the API server answered {status}")
    if status == 404:
        return NotThere(message)
    if status == 409:
        return Conflict(message)
    if status in _REFUSED:
        return Refused(message)
    return Unavailable(message)
