"""The services behind the gateway: how busy they are, and their models, loaded and unloaded."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

import grpc.aio
from aiohttp import web

from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_gateway.answers import JSON, Answer, as_json, patient, response
from voxroute_gateway.description import (
    BOOLEAN,
    INTEGER,
    SERVICES,
    STRING,
    Operation,
    array,
    fields,
    one_of,
    whole,
)
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.uploads import json_object
from voxroute_orchestrator.client.connection import Endpoint, connect, policy, unary
from voxroute_orchestrator.client.credentials import of_settings
from voxroute_orchestrator.client.failures import of_rpc_error
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.fleet.survey import SPEECH, Status
from voxroute_orchestrator.names import is_path

_LOADING_S = 3600.0
"""For a model that has to be converted first."""

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
_MODEL = fields(
    ("address", "model", "state", "calls_in_flight", "memory_bytes"),
    address=STRING,
    model=STRING,
    state=one_of("unspecified", "available", "loading", "loaded"),
    calls_in_flight=INTEGER,
    memory_bytes=INTEGER,
)


class Services:
    """The routes /api/services and below."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        models = "/api/services/models"
        return [
            web.get("/api/services", self.services),
            web.get(models, self.models),
            web.post(models, self.set),
        ]

    @Operation({200: {JSON: whole(services=array(_SERVICE))}})
    async def services(self, request: web.Request) -> web.Response:
        """The services that are configured or in use: models, device, places, queue."""
        del request
        statuses = await self._gateway.upstream.statuses()
        return response(as_json({"services": [_shown(one) for one in statuses]}))

    @Operation({200: {JSON: whole(models=array(_MODEL))}})
    async def models(self, request: web.Request) -> web.Response:
        """The models of each service that is configured or in use, on its disk or in memory."""
        del request
        found = await asyncio.gather(*map(self._of, self._gateway.upstream.endpoints()))
        return response(as_json({"models": [one for models in found for one in models]}))

    @Operation(
        {200: {JSON: _MODEL}},
        (404, *SERVICES),
        body={
            JSON: fields(
                ("address", "model", "loaded"), address=STRING, model=STRING, loaded=BOOLEAN
            )
        },
    )
    async def set(self, request: web.Request) -> web.StreamResponse:
        """Loads a model, which may take minutes, or frees its memory."""
        asked = await json_object(request)
        address, model, loaded = (asked.get(name) for name in ("address", "model", "loaded"))
        if not isinstance(model, str):
            raise bad_field("model", "write a text")
        if is_path(model):
            raise bad_field("model", "name a model, no folder of the service's host")
        if not isinstance(loaded, bool):
            raise bad_field("loaded", "write true or false")
        known = {one.target: one for one in self._gateway.upstream.endpoints()}
        if not isinstance(address, str) or address not in known:
            raise RequestError(404, "there is no such service", "service_not_found", "address")
        work = self._changed(known[address], model, loaded=loaded)
        return await patient(request, work, content_type=JSON)

    async def _of(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """None where the service is away, which its status tells, or has no models to load."""
        try:
            async with self._stub(endpoint) as stub:
                reply = await unary(endpoint, stub.ListModels, models_pb2.ListModelsRequest())
        except VoxrouteError:
            return []
        return [_model_shown(endpoint, model) for model in reply.models]

    async def _changed(self, endpoint: Endpoint, model: str, *, loaded: bool) -> Answer:
        async with self._stub(endpoint) as stub:
            if not loaded:
                asked = models_pb2.UnloadModelRequest(model=model)
                reply = await unary(endpoint, stub.UnloadModel, asked)
                return as_json(_model_shown(endpoint, reply.model))
            last = models_pb2.Model()
            try:
                calls = stub.LoadModel(models_pb2.LoadModelRequest(model=model), timeout=_LOADING_S)
                async for reply in calls:
                    last = reply.model
            except grpc.aio.AioRpcError as error:
                raise of_rpc_error(error, str(endpoint), "") from error
            return as_json(_model_shown(endpoint, last))

    @contextlib.asynccontextmanager
    async def _stub(self, endpoint: Endpoint) -> AsyncGenerator[Any]:
        settings = self._gateway.upstream.settings
        async with connect(endpoint, policy(settings), of_settings(settings)) as channel:
            yield cast("Any", models_pb2_grpc).ModelServiceStub(channel)


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


def _model_shown(endpoint: Endpoint, model: models_pb2.Model) -> dict[str, Any]:
    state = models_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
    return {
        "address": endpoint.target,
        "model": model.model.id,
        "state": state,
        "calls_in_flight": model.calls_in_flight,
        "memory_bytes": model.memory_bytes,
    }
