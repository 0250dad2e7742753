"""What is asked for: the same by flags, in files and in messages, and refused where wrong."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.orchestrator.cli.test_command import Sandbox, sandbox
from tests.orchestrator.daemon import Services
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.cli.options import asks
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.spec import (
    FLAGS,
    SENT,
    AskedError,
    JobSpec,
    of_flags,
    of_message,
    to_message,
)
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.formats import FORMATS

__all__ = ["sandbox"]

TAGS = st.lists(st.sampled_from(["hi", "en", "pt-BR", "zh-Hant"]), unique=True).map(tuple)
SPECS = st.builds(
    JobSpec,
    source_languages=TAGS,
    target_languages=TAGS,
    asr_model=st.sampled_from(["", "large-v3"]),
    translate_model=st.sampled_from(["", "nllb"]),
    glossary=st.sampled_from([(), (GlossaryTerm("राम", "Ram"), GlossaryTerm("x", "", True, True))]),
    prompt=st.sampled_from(["", "Asha, Ravi."]),
    priority=st.sampled_from(["normal", "high", "low"]),
    words=st.booleans(),
    align=st.booleans(),
    speakers=st.booleans(),
    min_speakers=st.integers(0, 2),
    max_speakers=st.sampled_from([0, 2, 100]),
    vad_disabled=st.booleans(),
    audio_stream=st.none() | st.integers(0, 9),
    audio_channel=st.none() | st.integers(0, 9),
    start_s=st.sampled_from([0.0, 1.5]),
    end_s=st.sampled_from([None, 90.25]),
    formats=st.lists(st.sampled_from(sorted(FORMATS)), unique=True, min_size=1).map(tuple),
    speaker_prefix=st.booleans(),
    drop_flagged=st.booleans(),
    mux=st.booleans(),
)


@given(spec=SPECS)
def test_a_message_says_what_was_asked_for(spec: JobSpec) -> None:
    """All fields that the job service takes come back, a stream and a channel 0 too."""
    assert of_message(to_message(spec)) == spec


def test_every_field_of_the_message_but_the_media_is_asked_for_by_a_flag() -> None:
    """So a field that is new in the contract has its flag, and the other way round."""
    config = jobs_pb2.JobConfig.DESCRIPTOR
    media = {field.name for field in config.oneofs_by_name["media"].fields}
    assert len(SENT) == len({field.name for field in config.fields} - media)
    strangers = {"diarization_model", "hls_folder", "strict", "backend", "device"}
    assert set(FLAGS) - SENT == strangers  # of one host, or of one command


@pytest.mark.parametrize(
    ("fields", "flags", "sentence"),
    [
        (
            {"min_speakers": 3, "max_speakers": 2},
            "--min-speakers 3 is more than --max-speakers 2",
            "`min_speakers` 3 is more than `max_speakers` 2",
        ),
        (
            {"start_s": 90.0, "end_s": 90.0},
            "--end-time (1:30) must be later than --start-time (1:30)",
            "`end` (1:30) must be later than `start` (1:30)",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_in_the_words_of_who_asks(
    fields: dict[str, Any], flags: str, sentence: str
) -> None:
    """Flags for a person, fields for a program."""
    with pytest.raises(AskedError) as caught:
        JobSpec(**fields)
    assert str(caught.value) == flags
    assert caught.value.sentence == sentence


def test_what_is_typed_is_read_by_the_field() -> None:
    """Lists with commas, times with colons; what is wrong is refused by the flag's name."""
    spec = of_flags({"source_languages": "hi, EN", "end_s": "1:30", "formats": "srt,ass"})
    assert spec == JobSpec(source_languages=("hi", "en"), end_s=90.0, formats=("srt", "ass"))
    for typed in ({"end_s": "1:90"}, {"formats": "doc"}, {"target_languages": ["klingonese!"]}):
        with pytest.raises(UsageError):
            of_flags(typed)


def test_a_command_has_the_flags_that_it_names_where_the_spec_stands() -> None:
    """And is called with the spec that they make."""
    seen: list[JobSpec] = []

    @asks(only=("words", "target_languages"), required=("target_languages",))
    def command(*, first: int, spec: JobSpec, last: int) -> None:
        seen.append(dataclasses.replace(spec, min_speakers=first + last))

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["first", "target_languages", "words", "last"]
    assert parameters["target_languages"].default is inspect.Parameter.empty
    command(first=1, last=2, words=True, target_languages=["en"])
    assert seen == [JobSpec(words=True, target_languages=("en",), min_speakers=3)]


def test_what_is_asked_for_reaches_the_service(sandbox: Sandbox, services: Services) -> None:
    """From --start-time to --end-time, on the film's own clock, and what --prompt says."""
    out = Path(sandbox.out)
    done = sandbox.run(
        "transcribe", str(sandbox.media), "-s", "hi", "--endpoint", services.asr,
        "--start-time", "0:05", "--end-time", "12", "--prompt", "Asha, Ravi.", "-o", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cues = subtitles.read(out / "film.hi.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(5, 12)]
    assert cues[0].start_ms == 5000
    assert services.speech.configs[-1].decoding.initial_prompt == "Asha, Ravi."


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--start-time", "1:00"), "--start-time 1:00 is beyond the end of the media (0:20)"),
        (("--end-time", "0"), "--end-time (0:00) must be later than --start-time (0:00)"),
    ],
)
def test_a_part_that_is_none_of_the_film_is_refused_with_its_times(
    sandbox: Sandbox, flags: tuple[str, ...], sentence: str
) -> None:
    """Before anything is started; the file is not called broken."""
    refused = sandbox.run("transcribe", str(sandbox.media), "-s", "hi", *flags)
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert not sandbox.pids()
