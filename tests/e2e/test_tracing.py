"""One trace of a real job, and logs that do not tell what was said."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.serving.collector import Kept, collecting
from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc

PROMPT = "Zanzibar"
TERM = translate_pb2.GlossaryTerm(source="चाबी", target="Excalibur")


def below(spans: list[Kept], ancestor: Kept) -> list[Kept]:
    """All spans below one."""
    children = [one for one in spans if one.parent_id == ancestor.span_id]
    return [*children, *(deeper for child in children for deeper in below(spans, child))]


@pytest.mark.slow
@pytest.mark.timeout(900)  # two services start; on a busy machine each takes minutes
async def test_a_run_is_one_trace_from_the_command_to_the_translation(
    clip: Path, tmp_path: Path
) -> None:
    """Every span is below the job, services under their own names, and none tells what was said."""
    async with collecting() as collector:
        inherited = {name: value for name, value in os.environ.items() if "VOXROUTE" not in name}
        inherited["VOXROUTE_LOCAL_IDLE_S"] = "0"
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "voxroute_orchestrator", "run", str(clip)),
            *("-s", "hi", "-t", "en", "-o", str(tmp_path), "--offline", "--log-level", "info"),
            env=inherited | collector.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(command.communicate(), 800)
        assert command.returncode == 0, (out, err)
    spans = collector.spans
    assert len({one.trace_id for one in spans}) == 1
    [job] = [one for one in spans if not one.parent_id]
    assert (job.service, job.name) == ("voxroute", "job")
    assert len(below(spans, job)) == len(spans) - 1
    assert job.attributes["voxroute.target_languages"] == ["en"]
    assert job.attributes["voxroute.media_s"] > 30
    assert {one.service for one in spans} == {
        "voxroute",
        "voxroute-asr-whisperx",
        "voxroute-translate",
    }
    for method, service in (
        ("voxroute.asr.v1.AsrService/Transcribe", "voxroute-asr-whisperx"),
        ("voxroute.translate.v1.TranslateService/Translate", "voxroute-translate"),
    ):
        clients = {one.span_id: one for one in collector.named(method, "voxroute")}
        servers = collector.named(method, service)
        assert servers
        assert sorted(clients) == sorted(one.parent_id for one in servers)
        assert all(clients[one.parent_id].parent_id == job.span_id for one in servers)
        assert all(one.attributes["rpc.response.status_code"] == "OK" for one in servers)
        calls = {one.span_id for one in servers}
        for name in ("queue", "batch"):
            assert calls >= {one.parent_id for one in collector.named(name, service)} != set()
    assert collector.named("decode", "voxroute-asr-whisperx")
    job_ids = {one.attributes["voxroute.job_id"] for one in spans if one.kind == "server"}
    assert job_ids == {job.attributes["voxroute.job_id"]}
    said = "".join(one.raw for one in spans)
    transcript = json.loads((tmp_path / f"{clip.stem}.transcript.json").read_text())
    texts = [one["text"] for one in transcript["segments"]]
    texts += [one["text"] for one in transcript["translations"]["en"]["items"]]
    assert texts
    for secret in (clip.stem, *texts):
        assert secret not in said
    assert not re.search(r"[\u0900-\u097f]", said)


@pytest.mark.slow
@pytest.mark.timeout(900)  # two services start; on a busy machine each takes minutes
@pytest.mark.parametrize("log_text", [False, True])
def test_a_log_tells_what_was_said_only_where_that_is_asked_for(
    clip: Path,
    log_text: bool,  # noqa: FBT001 - pytest passes parameters by name
) -> None:
    """Not a word of transcript, translation, prompt, hotwords or glossary, at the debug level."""
    flags = ("--log-level", "debug", *(["--log-text"] if log_text else []))
    config = processes.container_config()
    config.word_timestamps = True
    config.decoding.initial_prompt = PROMPT
    config.decoding.hotwords.append(PROMPT)
    with processes.asr_service(*flags) as running:
        answers = processes.transcribe(running, config, clip.read_bytes())
        segments = [one.segment for one in answers if one.HasField("segment")]
        asr_log = running.log.read_text()
    with processes.translate_service(*flags) as running:
        translations = translated(running, segments)
        translate_log = running.log.read_text()
    log = asr_log + translate_log
    assert '"method": "Transcribe"' in asr_log
    assert '"method": "Translate"' in translate_log
    heard = {word for one in segments for word in words(one.text)}
    read = {word for text in translations for word in words(text)}
    assert heard
    assert read
    written = words(log)
    if log_text:
        assert heard <= words(asr_log)
        assert heard | read <= words(translate_log)
    else:
        assert not heard & written
        assert not re.search(r"[\u0900-\u097f]", log)
        assert not read & written
        assert not any(text in log for text in translations if words(text))
        assert PROMPT not in log
        assert TERM.target not in log


def words(text: str) -> set[str]:
    """Its words, without the short ones, which any log has too."""
    found = re.findall(r"[\w\u0900-\u097f]+", text.casefold())  # vowel signs are no \w
    return {word for word in found if len(word) > 3}


def translated(running: processes.Service, segments: list[asr_pb2.Segment]) -> list[str]:
    """The segments in English, one of them with a glossary that is refused first."""

    def requests(terms: list[translate_pb2.GlossaryTerm]) -> list[translate_pb2.TranslateRequest]:
        config = translate_pb2.TranslateConfig(
            source_language="hi", target_language="en", glossary=terms
        )
        items = [translate_pb2.TranslateItem(id=str(one.id), text=one.text) for one in segments]
        return [
            translate_pb2.TranslateRequest(config=config),
            *(translate_pb2.TranslateRequest(item=item) for item in items),
            translate_pb2.TranslateRequest(finish=common_pb2.Finish()),
        ]

    with running.channel() as channel:
        stub = translate_pb2_grpc.TranslateServiceStub(channel)
        refused = stub.Translate(iter(requests([TERM, TERM])), timeout=120)
        assert refused.code().name == "INVALID_ARGUMENT"
        answers = list(stub.Translate(iter(requests([TERM])), timeout=240))
    return [one.result.text for one in answers if one.HasField("result")]
