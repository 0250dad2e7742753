"""voxroute.live.v1.LiveService on the captions; served beside JobService."""

# ruff: noqa: N802 - the method has the contract's name
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from dataclasses import dataclass, field, replace

import grpc.aio

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.live.v1 import live_pb2, live_pb2_grpc
from voxroute_orchestrator import glossary
from voxroute_orchestrator.client.failures import CallFailedError, details_of
from voxroute_orchestrator.errors import (
    RefusedError,
    ServiceUnavailableError,
    UsageError,
    VoxrouteError,
)
from voxroute_orchestrator.fleet.connect import Connected
from voxroute_orchestrator.fleet.needs import ObserveRoute, observe_nothing
from voxroute_orchestrator.live.captions import Captions
from voxroute_orchestrator.live.metrics import LiveMetrics
from voxroute_orchestrator.live.services import found
from voxroute_orchestrator.names import is_path
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.transcript import standard_tag
from voxroute_serving import errors
from voxroute_serving.asr.live.messages import live_options
from voxroute_serving.calls.requests import Context, Requests, Send, relayed
from voxroute_serving.telemetry.logs import get_logger

SERVICE_NAME = live_pb2.DESCRIPTOR.services_by_name["LiveService"].full_name
STOPPING = "SERVICE_STOPPING"
"""The code of the warning before a stream of a service that ends is ended."""
_RETRY_S = 1.0

_log = get_logger(__name__)

_OF_STREAMS = (
    errors.InvalidInputError,
    errors.InvalidAudioError,
    errors.ModelNotFoundError,
    errors.ModelUnavailableError,
    errors.ModelGatedError,
    errors.UnsupportedError,
    errors.QueueFullError,
    errors.ClientLimitError,
    errors.NoRoomError,
    errors.LimitExceededError,
    errors.OutOfMemoryError,
    errors.NotReadyError,
    errors.EngineError,
)
_BY_REASON = {error.reason: error for error in _OF_STREAMS}
"""What the speech service may say of a stream, and is said on."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the operator has chosen."""

    settings: Settings
    spec: JobSpec = field(default_factory=JobSpec)
    """For streams that do not choose themselves."""
    only_asr_endpoints: bool = False
    """Whether running services were named, so that no local one is started beside them."""
    only_translate_endpoints: bool = False


class LiveServicer(live_pb2_grpc.LiveServiceServicer):
    """Answers Caption."""

    def __init__(
        self,
        offered: Offered,
        metrics: LiveMetrics,
        observe_route: ObserveRoute = observe_nothing,
    ) -> None:
        self._offered = offered
        self._metrics = metrics
        self._observe_route = observe_route
        self._open: set[Captions] = set()
        self._stopping = False

    def leave(self) -> None:
        """Ends the streams: each closes its utterance, tells what is left, and is UNAVAILABLE."""
        self._stopping = True
        for captions in self._open:
            captions.stop()

    def Caption(
        self, request_iterator: AsyncIterator[live_pb2.CaptionRequest], context: Context
    ) -> AsyncGenerator[live_pb2.CaptionResponse]:
        """Captions speech while it is spoken."""

        async def work(send: Send[live_pb2.CaptionResponse]) -> None:
            requests = Requests[live_pb2.CaptionConfig](request_iterator)
            with self._metrics.streams.track_inprogress(), _told():
                await self._caption(await requests.config(), requests, send)

        return relayed(work, context)

    async def _caption(
        self,
        config: live_pb2.CaptionConfig,
        requests: Requests[live_pb2.CaptionConfig],
        send: Send[live_pb2.CaptionResponse],
    ) -> None:
        spec, terms = self._asked(config)
        async with self._services(spec) as connected:
            captions = Captions(
                connected.speech,
                connected.translators,
                config.speech,
                spec.target_languages,
                send,
                terms,
                self._metrics.translation_lag.observe,
            )
            self._open.add(captions)
            if self._stopping:
                captions.stop()
            try:
                await captions.run(_messages(requests))
            finally:
                self._open.discard(captions)
        if captions.stopped:
            stopping = "the service is shutting down; open a new stream, here or elsewhere"
            warning = common_pb2.Warning(code=STOPPING, message=stopping)
            await send(live_pb2.CaptionResponse(warning=warning))
            raise errors.NotReadyError(stopping, retry_after_s=_RETRY_S)

    def _services(self, spec: JobSpec) -> contextlib.AbstractAsyncContextManager[Connected]:
        offered = self._offered
        return found(
            offered.settings,
            spec,
            _log.info,
            _log.warning,
            only_asr_endpoints=offered.only_asr_endpoints,
            only_translate_endpoints=offered.only_translate_endpoints,
            observe=self._observe_route,
        )

    def _asked(
        self, config: live_pb2.CaptionConfig
    ) -> tuple[JobSpec, tuple[glossary.GlossaryTerm, ...]]:
        """What is asked for; its tags in the config are standard ones then.

        Raises InvalidInputError.
        """
        speech = config.speech
        if speech.language:
            speech.language = _tag("config.speech.language", speech.language)
        allowed = [_tag("config.speech.allowed_languages", tag) for tag in speech.allowed_languages]
        speech.allowed_languages[:] = allowed
        targets = [_tag("config.target_languages", tag) for tag in config.target_languages]
        for name, model in (
            ("config.speech.model", speech.model),
            ("config.translation_model", config.translation_model),
        ):
            if is_path(model):
                raise errors.InvalidInputError.of_field(
                    name, "name a model, no folder of this host; its operator sets one with --model"
                )
        try:
            terms = glossary.of_messages(config.glossary)
        except UsageError as error:
            raise errors.InvalidInputError.of_field("config.glossary", str(error)) from error
        spec = replace(
            self._offered.spec,
            source_languages=(speech.language,) if speech.language else tuple(allowed),
            target_languages=tuple(dict.fromkeys(targets)),
            asr_model=speech.model or self._offered.spec.asr_model,
            translate_model=config.translation_model or self._offered.spec.translate_model,
            strict=speech.strict_options,
        )
        live_options(speech)  # refuses what no service takes before one is started
        speech.ClearField("model")  # the clients of the services know what to name
        return spec, terms


def _tag(name: str, text: str) -> str:
    try:
        return standard_tag(text)
    except ValueError as error:
        raise errors.InvalidInputError.of_field(name, str(error)) from error


async def _messages(
    requests: Requests[live_pb2.CaptionConfig],
) -> AsyncGenerator[asr_pb2.TranscribeLiveRequest]:
    """What follows the config, as the speech service takes it. Raises InvalidInputError."""
    while True:
        kind, content = await requests.next()
        if kind == "config":
            raise errors.InvalidInputError.of_field("config", "was sent twice; send it once, first")
        yield asr_pb2.TranscribeLiveRequest(**{kind: content})


@contextlib.contextmanager
def _told() -> Generator[None]:
    """Lets failures of services leave as those of this one."""
    try:
        yield
    except CallFailedError as failure:
        raise _relayed(failure) from failure
    except (RefusedError, UsageError) as error:
        raise errors.InvalidInputError(str(error)) from error
    except ServiceUnavailableError as error:
        raise errors.NotReadyError(str(error), retry_after_s=_RETRY_S) from error
    except VoxrouteError as error:
        raise errors.EngineError(str(error)) from error


def _relayed(failure: CallFailedError) -> errors.ServingError:
    """What the speech service has said, as it has said it where it says why."""
    cause = failure.__cause__
    if isinstance(cause, grpc.aio.AioRpcError):
        told = details_of(cause)
        known = _BY_REASON.get(told.reason)
        if known is not None:
            violations = [
                errors.FieldViolation(field.replace("config", "config.speech", 1), why)
                for field, why in told.violations
            ]
            return known(
                cause.details() or known.reason,
                violations=violations,
                retry_after_s=told.retry_after_s,
            )
    if isinstance(failure.error, ServiceUnavailableError):
        retry_s = failure.retry_after_s or _RETRY_S
        return errors.NotReadyError(str(failure.error), retry_after_s=retry_s)
    return errors.EngineError(str(failure.error))
