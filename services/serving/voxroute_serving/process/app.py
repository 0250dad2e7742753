"""The seam between the server and a service: what a service gives to be served."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import grpc.aio


class App(Protocol):
    """A set of gRPC services with one life."""

    service_names: Sequence[str]
    """Full names ("voxroute.asr.v1.AsrService"), for health and reflection."""

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicers to a server that has not started."""
        ...

    async def start(self) -> None:
        """Loads the default model and lets it answer once; health turns SERVING when this returns.

        Raises ServingError where the model cannot be had; the process then ends with a message.
        """
        ...

    async def close(self) -> None:
        """Frees the models on their thread; no call is open any more."""
        ...


@runtime_checkable
class Leaving(Protocol):
    """An app with calls that would last as long as they are let: they are not to hold the drain."""

    def leave(self) -> None:
        """Ends such calls; the drain begins now."""
        ...
