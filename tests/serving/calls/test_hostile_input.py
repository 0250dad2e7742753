"""Damaged media and senseless messages against a real process: refused or served, never worse."""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest

from tests.serving.fake_service import Process, running
from tests.serving.recordings import Media, chunks, faststart, media, s16le, tone
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.models.v1 import models_pb2

Request = asr_pb2.TranscribeRequest
STATUS = grpc.StatusCode
# what a client can have done wrong; anything else would be a fault of the service
REFUSALS = {
    STATUS.INVALID_ARGUMENT,
    STATUS.NOT_FOUND,
    STATUS.FAILED_PRECONDITION,
    STATUS.RESOURCE_EXHAUSTED,
    STATUS.UNIMPLEMENTED,
}
INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|0x[0-9a-f]{6,}|<[\w.]+ object"
    r"|/(?:tmp|usr|home|root|work)/|(?:Error|Exception)\(|errno|None\b|avcodec|libav"
)
ASR = "/voxroute.asr.v1.AsrService/"
MODELS = "/voxroute.models.v1.ModelService/"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all cases: what one leaves behind, the next would meet."""
    with running(tmp_path_factory.mktemp("service")) as process:
        yield process


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Sound files of several containers, 2 s each."""
    mp4 = media(Media("mp4", "aac", seconds=2))
    return [
        mp4,
        faststart(mp4),
        media(Media("mp4", "aac", seconds=2, video=True)),
        media(Media("wav", "pcm_s16le", seconds=2)),
        media(Media("matroska", "aac", seconds=2)),
        media(Media("matroska", "flac", seconds=2)),
    ]


# --- mutations -----------------------------------------------------------------------------------


def flipped(chance: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """A few bytes changed, most of them near the start, where the structure is."""
    del files
    changed = bytearray(data)
    for _ in range(chance.choice((1, 4, 32, 256))):
        end = len(changed) if chance.random() < 0.5 else min(len(changed), 512)
        changed[chance.randrange(end)] = chance.randrange(256)
    return bytes(changed)


def truncated(chance: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """The beginning, or the end."""
    del files
    at = chance.randrange(len(data))
    return data[:at] if chance.random() < 0.7 else data[at:]


def spliced(chance: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """The beginning of one file and the end of another."""
    other = chance.choice(files)
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def inflated(chance: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """A length field that promises far too much."""
    del files
    at = chance.randrange(0, min(len(data), 2048) - 8)
    huge = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00"))
    return data[:at] + huge + data[at + 4 :]


def repeated(chance: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """A stretch that comes again and again."""
    del files
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 4096)]
    return data[:start] + piece * chance.randrange(2, 20) + data[start:]


MUTATIONS = (flipped, truncated, spliced, inflated, repeated)


def hostile_media(chance: random.Random, files: Sequence[bytes]) -> list[bytes]:
    """The messages of a transcription, in order, whose media file is damaged."""
    data = chance.choice(files)
    for _ in range(chance.choice((1, 1, 2))):
        if len(data) > 16:  # a truncation may leave nothing to change
            data = chance.choice(MUTATIONS)(chance, data, files)
    config = asr_pb2.TranscribeConfig(
        language=chance.choice(("hi", "")),
        audio=asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat()),
        vad=asr_pb2.VadOptions(disabled=chance.random() < 0.5),
    )
    parts = chunks(data, chance.choice((997, 16_384, 65_536)))
    audio = [Request(audio=part) for part in parts]
    finish = Request(finish=common_pb2.Finish())
    return [one.SerializeToString() for one in (Request(config=config), *audio, finish)]


def sensible_messages() -> list[bytes]:
    """A transcription of a tone, with more options than most."""
    config = asr_pb2.TranscribeConfig(
        language="hi",
        model="tones",
        audio=asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000)),
        vad=asr_pb2.VadOptions(disabled=True),
    )
    config.audio.start_offset.FromSeconds(3)
    audio = [Request(audio=part) for part in chunks(s16le(tone(1.0)), 8_000)]
    finish = Request(finish=common_pb2.Finish())
    return [one.SerializeToString() for one in (Request(config=config), *audio, finish)]


def hostile_messages(chance: random.Random, files: Sequence[bytes]) -> list[bytes]:
    """Messages out of order, left out, twice, or with other bytes."""
    sent = sensible_messages()
    for _ in range(chance.choice((1, 2, 3))):
        at = chance.randrange(len(sent))
        match chance.randrange(6):
            case 0:
                chance.shuffle(sent)
            case 1 if len(sent) > 1:
                del sent[at]
            case 2:
                sent.insert(chance.randrange(len(sent)), sent[at])
            case 3:
                sent[at] = flipped(chance, sent[at] or b"\0", files)
            case 4:
                sent[at] = sent[at][: chance.randrange(len(sent[at]) + 1)]
            case _:
                sent.insert(at, chance.randbytes(chance.choice((0, 1, 16, 4096))))
    return sent


# --- calls ---------------------------------------------------------------------------------------


def refusal_of(call: Callable[[], object]) -> str:
    """The whole of what a refused call says, "" for one that is served."""
    try:
        call()
    except grpc.RpcError as caught:
        error: Any = caught  # a call too, which its type does not say
        trailing = [value for _, value in error.trailing_metadata() or ()]
        said = f"{error.details()} {trailing}"
        assert error.code() in REFUSALS, f"{error.code()}: {said}"
        return said
    return ""


def attack(channel: grpc.Channel, chance: random.Random, files: Sequence[bytes]) -> str:
    """One hostile call; what it was answered with where it was refused."""
    kind = chance.randrange(10)
    if kind < 5:
        sent, method = hostile_media(chance, files), "Transcribe"
    elif kind < 9:
        sent = hostile_messages(chance, files)
        method = chance.choice(("Transcribe", "Transcribe", "DetectLanguage", "Align"))
    else:
        name = chance.choice(("LoadModel", "UnloadModel", "ListModels"))
        request = models_pb2.LoadModelRequest(model=chance.choice(("tones", "../../etc/passwd")))
        data = flipped(chance, request.SerializeToString(), files)
        if name == "LoadModel":
            stream = channel.unary_stream(MODELS + name)
            return refusal_of(lambda: list(stream(data, timeout=TIMEOUT_S)))
        unary = channel.unary_unary(MODELS + name)
        return refusal_of(lambda: unary(data, timeout=TIMEOUT_S))
    if method == "DetectLanguage":
        client_stream = channel.stream_unary(ASR + method)
        return refusal_of(lambda: client_stream(iter(sent), timeout=TIMEOUT_S))
    bidi = channel.stream_stream(ASR + method)
    return refusal_of(lambda: list(bidi(iter(sent), timeout=TIMEOUT_S)))


def check(service: Process, seeds: range, files: Sequence[bytes]) -> None:
    """Attacks with each seed, then looks whether the service is as it was."""
    with grpc.insecure_channel(service.address) as channel:
        for seed in seeds:
            said = attack(channel, random.Random(seed), files)  # noqa: S311 - reproducible
            found = INTERNALS.search(said)
            assert found is None, f"seed {seed}: {found and found[0]} in {said}"
            assert service.process.poll() is None, f"seed {seed}: {service.log.read_text()[-4000:]}"
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        about = stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=TIMEOUT_S)
        assert about.queue.calls_in_flight == 0
        assert about.queue.work_queued == 0
        answers = list(
            stub.Transcribe(
                (Request.FromString(one) for one in sensible_messages()), timeout=TIMEOUT_S
            )
        )
        texts = [one.segment.text for one in answers if one.HasField("segment")]
        assert texts == ["tone 440"]
    # a defect is logged as an error; what a thread or a task drops would be no JSON at all
    for line in service.log.read_text().splitlines():
        assert line.startswith("{"), line
        assert json.loads(line)["level"] != "error", line


def test_hostile_input_is_refused_with_a_sentence(service: Process, files: list[bytes]) -> None:
    """No crash, no hang, no internals in an answer, no error in the log; it goes on serving."""
    check(service, range(50), files)


@pytest.mark.slow  # 3000 cases: some minutes
@pytest.mark.timeout(1800)
def test_much_hostile_input_is_refused_with_a_sentence(
    service: Process, files: list[bytes]
) -> None:
    """The same with many more seeds."""
    check(service, range(50, 3050), files)
