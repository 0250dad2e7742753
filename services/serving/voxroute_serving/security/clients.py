"""Who a client is, and whether it may call.

A client's name is, in this order: that of its token, the common name of its certificate, its
address without the port; of IPv6 the first 64 bits, because a host has all addresses of such a
network. All clients of a unix socket are one: the user that owns it.
"""

import ipaddress
from typing import Any, cast
from urllib.parse import unquote

import grpc.aio

from voxroute_serving.errors import UnauthenticatedError
from voxroute_serving.security.tokens import TokenFile

Context = grpc.aio.ServicerContext[Any, Any]

METADATA_KEY = "authorization"
_SCHEME = "bearer"
_COMMON_NAME = "x509_common_name"
_IPV6_PREFIX = 64  # bits
_MAX_NAME = 128  # characters; a certificate's name goes into every line of the log


class Access:
    """Names clients, and refuses those without a token where tokens are asked for."""

    def __init__(self, tokens: TokenFile | None = None) -> None:
        self._tokens = tokens

    def identify(self, context: Context) -> str:
        """The client's name, of its token where tokens are on. Raises UnauthenticatedError."""
        if self._tokens is None:
            return name_without_token(context)
        offered = _offered_token(context)
        name = self._tokens.name_of(offered)
        if name is None:
            raise UnauthenticatedError(
                "the token is not one that this service knows; it may have been replaced: ask"
                " whoever runs the service"
            )
        return name


def name_without_token(context: Context) -> str:
    """The client's name, of its certificate or its address."""
    common_names = cast("dict[str, list[bytes]]", cast("Any", context).auth_context()).get(
        _COMMON_NAME
    )
    for name in common_names or ():
        if name.strip():  # a certificate may well have an empty one
            return name.decode("utf-8", "replace")[:_MAX_NAME]
    return _address_name(unquote(context.peer()))


def _address_name(peer: str) -> str:
    """The name of a client by grpc's name of its end of the connection; never empty."""
    kind, _, address = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return kind or "unknown"
    host = address.rpartition(":")[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or kind
    if isinstance(ip, ipaddress.IPv4Address) or ip.is_loopback or ip.is_link_local:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))


def _offered_token(context: Context) -> str:
    """The one token in the call's metadata. Raises UnauthenticatedError."""
    metadata: Any = context.invocation_metadata() or ()
    offered = [value for key, value in metadata if key == METADATA_KEY]
    if not offered:
        raise UnauthenticatedError(
            f"this service asks for a token; send the metadata {METADATA_KEY}: Bearer TOKEN"
        )
    scheme, _, token = str(offered[0]).partition(" ")
    if len(offered) > 1 or scheme.lower() != _SCHEME or not token.strip():
        raise UnauthenticatedError(
            f"the metadata {METADATA_KEY} is not `Bearer TOKEN`, once; send it so"
        )
    return token.strip()
