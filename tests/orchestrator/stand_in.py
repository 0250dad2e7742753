"""Small real gRPC services whose answers follow from what they are sent.

The recording of `recordings.steps` holds, for each second, samples of one value; the speech
stand-in hears "word7" in a second of value 700. So a lost, repeated or shifted second shows in the
text, whatever calls and connections it went through. Run as a process it takes the flags of the
real services; STAND_IN_* variables make it slow or let it crash.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_status import rpc_status

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_orchestrator.client.messages import duration, seconds

STEP = 100  # the samples' size in second k is k times this
_SECOND_BYTES = 32_000
_CPU = common_pb2.Device(kind=common_pb2.DEVICE_KIND_CPU, name="stand-in", compute_type="int8")


@dataclass
class Break:
    """How a call ends early: after so many segments or results, with this status."""

    after: int
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    retry_after_s: float | None = None
    message: str = "the connection broke"
    violation: str = ""
    reason: str = "TEST"


async def abort(context: Any, breaking: Break) -> None:
    """Ends the call with the status."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=breaking.reason, domain="voxroute")]
    if breaking.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.CopyFrom(duration(breaking.retry_after_s))
        details.append(retry)
    if breaking.violation:
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field="language", description=breaking.violation)
        details.append(bad)
    packed: list[AnyMessage] = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status = status_pb2.Status(
        code=breaking.code.value[0], message=breaking.message, details=packed
    )
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)


@dataclass
class Speech(asr_pb2_grpc.AsrServiceServicer):
    """Hears one word a second, as soon as the second is there."""

    breaks: list[Break] = field(default_factory=list[Break])
    """How each call in turn ends early; further calls go well."""
    delay_s: float = 0.0
    device: "asyncio.Lock | None" = None
    """Held while a second is decoded, by calls that share a device; None where each has its own."""
    crash_after: int = 0
    configs: list[asr_pb2.TranscribeConfig] = field(default_factory=list[asr_pb2.TranscribeConfig])
    request_ids: list[str] = field(default_factory=list[str])
    first_segment_before_finish: bool = False
    sent: int = 0
    """Segments, by all calls."""
    languages: tuple[str, ...] = ("hi", "en")
    sure_of_language: float = 0.9
    misses_every: int = 0
    """Of so many seconds, the second half of the last one has a voice and no text; 0 for none."""

    async def GetCapabilities(  # noqa: N802 - the contract's name
        self, request: asr_pb2.GetCapabilitiesRequest, context: Any
    ) -> asr_pb2.GetCapabilitiesResponse:
        del request, context
        return asr_pb2.GetCapabilitiesResponse(
            engine="stand-in",
            engine_version="1",
            device=_CPU,
            models=[asr_pb2.AvailableModel(model=_model(), loaded=True)],
            languages=self.languages,
            queue=common_pb2.QueueStatus(calls_in_flight=1, calls_capacity=4),
        )

    async def Transcribe(  # noqa: C901, N802 - one exchange in one place; the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: Any
    ) -> AsyncIterator[asr_pb2.TranscribeResponse]:
        breaking = self.breaks.pop(0) if self.breaks else None
        self.request_ids += [v for k, v in context.invocation_metadata() if k == "x-request-id"]
        config = asr_pb2.TranscribeConfig()
        heard, sent, index, finished = bytearray(), 0, 0, False
        async for request in request_iterator:
            if request.HasField("config"):
                config = request.config
                self.configs.append(config)
                if breaking is not None and breaking.after == 0:
                    await abort(context, breaking)
                yield self._accepted(config)
                if not config.language:
                    yield _hindi(self.sure_of_language)
            heard += request.audio
            finished = finished or request.HasField("finish")
            while len(heard) >= _SECOND_BYTES or (finished and len(heard) > 1600):
                piece = bytes(heard[:_SECOND_BYTES])
                del heard[:_SECOND_BYTES]
                reached_s = seconds(config.audio.start_offset) + index
                if self.delay_s and reached_s >= seconds(config.resume_from):
                    async with self.device or contextlib.nullcontext():
                        await asyncio.sleep(self.delay_s)
                segment = _segment(piece, config, index)
                index += 1
                if seconds(segment.end) <= seconds(config.resume_from):
                    continue
                sent += 1
                self.sent += 1
                self.first_segment_before_finish |= not finished
                yield asr_pb2.TranscribeResponse(segment=segment)
                if self.misses_every and (index + 1) % self.misses_every == 0:
                    yield _missed(segment)
                yield _reached(segment)
                if self.crash_after and sent == self.crash_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                if breaking is not None and sent == breaking.after:
                    await abort(context, breaking)
        if not finished:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no finish")
        stats = asr_pb2.TranscribeStats(audio_duration=Duration(seconds=index), windows=sent)
        yield asr_pb2.TranscribeResponse(done=asr_pb2.Done(stats=stats, segments=sent))

    async def _not_here(self, request_iterator: Any, context: Any) -> Any:
        del request_iterator
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    _never: Any = _not_here
    DetectLanguage = Align = Diarize = TranscribeLive = _never

    def _accepted(self, config: asr_pb2.TranscribeConfig) -> asr_pb2.TranscribeResponse:
        applied = asr_pb2.AppliedOptions(
            config=config,
            ignored=[common_pb2.IgnoredOption(field="decoding.beam_size", reason="it is greedy")],
        )
        return asr_pb2.TranscribeResponse(
            accepted=asr_pb2.Accepted(request_id="r1", model=_model(), device=_CPU, options=applied)
        )


def _model() -> common_pb2.ModelRef:
    return common_pb2.ModelRef(engine="stand-in", id="steps", revision="sha256:0")


def _hindi(probability: float) -> asr_pb2.TranscribeResponse:
    probabilities = [
        asr_pb2.LanguageProbability(language="hi", probability=probability),
        asr_pb2.LanguageProbability(language="en", probability=1 - probability),
    ]
    return asr_pb2.TranscribeResponse(
        language_detected=asr_pb2.LanguageDetected(languages=probabilities)
    )


def _segment(piece: bytes, config: asr_pb2.TranscribeConfig, index: int) -> asr_pb2.Segment:
    samples = np.frombuffer(piece, dtype="<i2")
    value = round(float(np.median(np.abs(samples))) / STEP)
    start_s = seconds(config.audio.start_offset) + index
    return asr_pb2.Segment(
        id=index + 1,
        start=duration(start_s),
        end=duration(start_s + len(samples) / 16_000),
        text=f"word{value}",
        language=config.language or "hi",
        avg_log_prob=-0.25,
        flags=[asr_pb2.SEGMENT_FLAG_LOW_CONFIDENCE] if value == 3 else [],
    )


def _missed(segment: asr_pb2.Segment) -> asr_pb2.TranscribeResponse:
    return asr_pb2.TranscribeResponse(
        untranscribed=asr_pb2.Untranscribed(
            start=duration(seconds(segment.start) + 0.5),
            end=segment.end,
            reason=asr_pb2.UNTRANSCRIBED_REASON_NO_TEXT,
        )
    )


def _reached(segment: asr_pb2.Segment) -> asr_pb2.TranscribeResponse:
    progress = asr_pb2.Progress(
        stage=asr_pb2.STAGE_TRANSCRIBING, done=segment.end, resume_from=segment.end
    )
    return asr_pb2.TranscribeResponse(progress=progress)


@dataclass
class Translation(translate_pb2_grpc.TranslateServiceServicer):
    """Writes "en:" before a text; word5 fails, word6 is doubtful."""

    breaks: list[Break] = field(default_factory=list[Break])
    pairs: tuple[tuple[str, str], ...] = (("hi", "en"), ("hi", "ta"))
    seen: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    contexts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    knows_glossaries: bool = True
    delay_s: float = 0.0
    """For each text."""

    async def GetCapabilities(  # noqa: N802 - the contract's name
        self, request: translate_pb2.GetCapabilitiesRequest, context: Any
    ) -> translate_pb2.GetCapabilitiesResponse:
        del request, context
        model = translate_pb2.AvailableModel(model=_model(), loaded=True, license="Apache-2.0")
        return translate_pb2.GetCapabilitiesResponse(device=_CPU, models=[model])

    async def ListLanguagePairs(  # noqa: N802 - the contract's name
        self, request: translate_pb2.ListLanguagePairsRequest, context: Any
    ) -> translate_pb2.ListLanguagePairsResponse:
        del request, context
        return translate_pb2.ListLanguagePairsResponse(
            pairs=[
                translate_pb2.LanguagePair(source_language=s, target_language=t)
                for s, t in self.pairs
            ]
        )

    async def Translate(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[translate_pb2.TranslateRequest], context: Any
    ) -> AsyncIterator[translate_pb2.TranslateResponse]:
        breaking = self.breaks.pop(0) if self.breaks else None
        config, answered, finished = translate_pb2.TranslateConfig(), 0, False
        async for request in request_iterator:
            if request.HasField("config"):
                config = request.config
                if not self.knows_glossaries:
                    config.ClearField("glossary")
                accepted = translate_pb2.Accepted(model=_model(), device=_CPU, config=config)
                yield translate_pb2.TranslateResponse(accepted=accepted)
            elif request.HasField("item"):
                if breaking is not None and answered == breaking.after:
                    await abort(context, breaking)
                await asyncio.sleep(self.delay_s)
                self.seen.append((config.target_language, request.item.id))
                self.contexts[request.item.id] = list(request.item.context)
                answered += 1
                yield translate_pb2.TranslateResponse(result=_result(request.item, config))
            else:
                finished = True
        if not finished:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no finish")
        stats = translate_pb2.TranslateStats(items=answered, sentences=answered)
        yield translate_pb2.TranslateResponse(done=translate_pb2.Done(stats=stats))


def _result(
    item: translate_pb2.TranslateItem, config: translate_pb2.TranslateConfig
) -> translate_pb2.TranslateResult:
    if item.text == "word5":
        return translate_pb2.TranslateResult(
            id=item.id, status=translate_pb2.ITEM_STATUS_FAILED, detail="it is five"
        )
    status = translate_pb2.ITEM_STATUS_OK
    if item.text == "word6":
        status = translate_pb2.ITEM_STATUS_SUSPECT
    return translate_pb2.TranslateResult(
        id=item.id,
        text=f"{config.target_language}:{item.text}",
        status=status,
        model=_model(),
        glossary=[
            translate_pb2.GlossaryUse(term=number, applied=term.target in item.text)
            for number, term in enumerate(config.glossary)
            if term.source in item.text
        ],
    )


async def serve(
    target: str,
    *,
    speech: asr_pb2_grpc.AsrServiceServicer | None = None,
    translation: translate_pb2_grpc.TranslateServiceServicer | None = None,
    checks: health.HealthServicer | None = None,
) -> tuple[grpc.aio.Server, int]:
    """A started server that says SERVING, and its port."""
    server = grpc.aio.server()
    checks = checks or health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    if speech is not None:
        asr_pb2_grpc.add_AsrServiceServicer_to_server(speech, server)
    if translation is not None:
        translate_pb2_grpc.add_TranslateServiceServicer_to_server(translation, server)
    port = server.add_insecure_port(target)
    await server.start()
    return server, port


@contextlib.asynccontextmanager
async def serving(
    speech: asr_pb2_grpc.AsrServiceServicer | None = None,
    translation: translate_pb2_grpc.TranslateServiceServicer | None = None,
) -> AsyncGenerator[str]:
    """The address of a server that ends with the block."""
    server, port = await serve("127.0.0.1:0", speech=speech, translation=translation)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def _mark(path: Path) -> None:
    path.write_text(" ".join(sys.argv[1:]))


async def _main(kind: str) -> None:
    parser = argparse.ArgumentParser()
    for flag in (
        "--listen", "--metrics-listen", "--log-format", "--device", "--model", "--models",
        "--align-models", "--compute-type", "--max-batch",
    ):  # fmt: skip
        parser.add_argument(flag)
    options = parser.parse_args()
    marks = os.environ["STAND_IN_DIR"]
    _mark(Path(marks) / f"{kind}.{os.getpid()}.pid")
    if kind == os.environ.get("STAND_IN_REFUSES"):
        sys.exit("error: the model big-one is gated; accept its licence and set HF_TOKEN")
    if f"--device {os.environ.get('STAND_IN_TOO_SMALL')}" in " ".join(sys.argv):
        sys.exit("error: CUDA out of memory while loading the model")
    runs = sum(name.startswith(f"{kind}.") for name in os.listdir(marks))  # noqa: PTH208 - ASYNC240 wants no Path
    crash_after = int(os.environ.get("STAND_IN_CRASH_AFTER", "0")) if runs == 1 else 0
    delay_s = float(os.environ.get("STAND_IN_DELAY_S", "0"))
    device = asyncio.Lock() if os.environ.get("STAND_IN_ONE_DEVICE") else None
    speech = Speech(delay_s=delay_s, crash_after=crash_after, device=device)
    checks = health.HealthServicer()
    server, _ = await serve(
        options.listen,
        checks=checks,
        speech=speech if kind == "asr" else None,
        translation=Translation(delay_s=delay_s) if kind == "translate" else None,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    unwell = health_pb2.HealthCheckResponse.NOT_SERVING
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: unwells.append(loop.create_task(checks.set("", unwell)))
    )
    unwells: list[asyncio.Task[None]] = []
    await stop.wait()
    await server.stop(0.5)


def main(kind: str) -> None:
    """Serves until SIGTERM."""
    asyncio.run(_main(kind))
