"""Bad input to the real services: the right status, a sentence that helps, and still serving."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.e2e import processes
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc

Requests = Iterator[asr_pb2.TranscribeRequest]
SILENCE = bytes(2 * 16_000)  # a second


@dataclass(frozen=True)
class Case:
    """A client's messages, and the status and words that they must be answered with."""

    requests: Callable[[bytes], Requests]
    status: grpc.StatusCode
    words: tuple[str, ...]


def _twice(_: bytes) -> Requests:
    yield asr_pb2.TranscribeRequest(config=processes.pcm_config())
    yield asr_pb2.TranscribeRequest(config=processes.pcm_config())


def _model(name: str) -> asr_pb2.TranscribeConfig:
    config = processes.pcm_config()
    config.model = name
    return config


INVALID = grpc.StatusCode.INVALID_ARGUMENT
CASES = {
    "no audio": Case(
        lambda _: processes.requests(processes.pcm_config(), []), INVALID, ("no audio",)
    ),
    "odd number of bytes": Case(
        lambda _: processes.requests(processes.pcm_config(), [bytes(4097)]),
        INVALID,
        ("odd", "4097"),
    ),
    "truncated mp4": Case(
        lambda clip: processes.requests(
            processes.container_config(), processes.chunks(clip[: len(clip) * 2 // 3])
        ),
        INVALID,
        ("cut off",),
    ),
    "a text file": Case(
        lambda _: processes.requests(
            processes.container_config(), [b"Dear diary, today nothing was recorded.\n" * 200]
        ),
        INVALID,
        ("media",),
    ),
    "unknown language": Case(
        lambda _: processes.requests(processes.pcm_config("tlh"), [SILENCE]), INVALID, ("tlh", "hi")
    ),
    "unknown model": Case(
        lambda _: processes.requests(_model("whisper-enormous"), [SILENCE]),
        grpc.StatusCode.NOT_FOUND,
        ("whisper-enormous",),
    ),
    "config twice": Case(_twice, INVALID, ("config",)),
    "audio before config": Case(
        lambda _: processes.requests(None, [SILENCE]), INVALID, ("config",)
    ),
    "no finish": Case(
        lambda _: processes.requests(processes.pcm_config(), [SILENCE], finish=False),
        INVALID,
        ("finish",),
    ),
    "a 200 MB message": Case(
        lambda _: processes.requests(processes.pcm_config(), [bytes(200_000_000)]),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        (),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_audio_requests_are_refused_with_a_sentence_that_helps(
    name: str, asr: processes.Service, clip: Path
) -> None:
    """Each bad request ends with its status; the service then still answers a good one."""
    case = CASES[name]
    with grpc.insecure_channel(
        asr.target, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Transcribe(case.requests(clip.read_bytes()), timeout=120))
        assert caught.value.code() == case.status
        details = caught.value.details() or ""
        assert all(word in details for word in case.words), details
        assert "Traceback" not in details
        if case.words:
            assert _reason(caught.value)
        good = list(
            stub.Transcribe(processes.requests(processes.pcm_config(), [SILENCE]), timeout=60)
        )
        assert good[-1].HasField("done")


def _reason(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.domain == "voxroute"
    return info.reason


def test_silence_is_no_error(asr: processes.Service) -> None:
    """Ten seconds of silence give `done`, no segment and a NO_SPEECH warning."""
    answers = processes.transcribe(asr, processes.pcm_config(), SILENCE * 10)
    assert not [answer for answer in answers if answer.HasField("segment")]
    assert [a.warning.code for a in answers if a.HasField("warning")] == ["NO_SPEECH"]
    assert answers[-1].done.segments == 0


@pytest.mark.parametrize(
    ("source", "target", "words"), [("hi", "fr", ("fr",)), ("tlh", "en", ("tlh",))]
)
def test_unsupported_pairs_are_refused(
    source: str, target: str, words: tuple[str, ...], translation: processes.Service
) -> None:
    """A pair that no model translates is INVALID_ARGUMENT and names the language."""
    with translation.channel() as channel:
        stub = translate_pb2_grpc.TranslateServiceStub(channel)
        messages = [
            translate_pb2.TranslateRequest(
                config=translate_pb2.TranslateConfig(source_language=source, target_language=target)
            ),
            translate_pb2.TranslateRequest(item=translate_pb2.TranslateItem(id="1", text="नमस्ते")),
            translate_pb2.TranslateRequest(finish=common_pb2.Finish()),
        ]
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Translate(iter(messages), timeout=60))
        assert caught.value.code() == INVALID
        assert all(word in (caught.value.details() or "") for word in words)
        pairs = stub.ListLanguagePairs(translate_pb2.ListLanguagePairsRequest(), timeout=60)
        assert {(p.source_language, p.target_language) for p in pairs.pairs} == {
            ("hi", "en"),
            ("en", "hi"),
        }
