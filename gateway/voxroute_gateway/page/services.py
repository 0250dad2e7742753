"""What the services behind the gateway are, and how busy."""

from typing import Any

from aiohttp import web

from voxroute_gateway.answers import JSON, as_json, response
from voxroute_gateway.description import (
    BOOLEAN,
    INTEGER,
    STRING,
    Operation,
    array,
    fields,
    one_of,
    whole,
)
from voxroute_gateway.gateway import Gateway
from voxroute_orchestrator.fleet.survey import SPEECH, Status

_SPEECH, _TRANSLATION = "speech", "translation"
_SERVICE = fields(
    ("kind", "address", "serving", "error"),
    kind=one_of(_SPEECH, _TRANSLATION),
    address=STRING,
    serving=BOOLEAN,
    error=STRING,
    engine=STRING,
    version=STRING,
    device=STRING,
    models=array(STRING),
    calls_in_flight=INTEGER,
    calls_capacity=INTEGER,
    work_queued=INTEGER,
)


class Services:
    """The route /api/services."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [web.get("/api/services", self.services)]

    @Operation({200: {JSON: whole(services=array(_SERVICE))}})
    async def services(self, request: web.Request) -> web.Response:
        """The services that are configured or in use: models, device, places, queue."""
        del request
        statuses = await self._gateway.upstream.statuses()
        return response(as_json({"services": [_shown(one) for one in statuses]}))


def _shown(status: Status) -> dict[str, Any]:
    kind = _SPEECH if status.kind == SPEECH else _TRANSLATION
    found: dict[str, Any] = {
        "kind": kind,
        "address": status.target,
        "serving": status.serving,
        "error": status.error or "",
    }
    if status.offer is None:
        return found
    return {
        **found,
        "engine": status.engine,
        "version": status.version,
        "device": status.device,
        "models": list(status.models),
        "calls_in_flight": status.offer.calls_in_flight,
        "calls_capacity": status.offer.calls_capacity,
        "work_queued": status.offer.work_queued,
    }
