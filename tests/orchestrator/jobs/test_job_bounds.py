"""What a job may hold, and numbers that do not fit into the store."""

import base64
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from voxroute.jobs.v1 import jobs_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.jobs import service as job_service
from voxroute_orchestrator.jobs.errors import InvalidJobError
from voxroute_orchestrator.jobs.stores.sqlite import SqliteStore
from voxroute_serving import bounds
from voxroute_serving.errors import InvalidInputError


def submission(**fields: Any) -> jobs_pb2.SubmitJobConfig:
    """A submission with an upload."""
    return jobs_pb2.SubmitJobConfig(job=jobs_pb2.JobConfig(upload_name="film.wav", **fields))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"target_languages": ["en"] * 51}, "config.job.target_languages"),
        ({"source_languages": ["en" * 33]}, "config.job.source_languages[0]"),
        ({"asr_model": "x" * 257}, "config.job.asr_model"),
        ({"translate_model": "x" * 1_000_000}, "config.job.translate_model"),
        ({"formats": ["srt"] * 11}, "config.job.formats"),
        ({"start": Duration(seconds=2**62)}, "config.job.start"),
        (
            {"glossary": [translate_pb2.GlossaryTerm(source="x" * 201, target="y")]},
            "config.job.glossary[0].source",
        ),
    ],
)
def test_a_job_keeps_no_more_than_it_may(fields: dict[str, Any], named: str) -> None:
    """The field that holds too much is named."""
    request = jobs_pb2.SubmitJobRequest(config=submission(**fields))
    with pytest.raises(InvalidInputError) as caught:
        bounds.check(request)
    assert [violation.field for violation in caught.value.violations] == [named]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"start": Duration(seconds=366 * 86_400, nanos=1)}, "config.job.start"),
        ({"end": Duration(seconds=-1, nanos=-1)}, "config.job.end"),
        ({"min_speakers": 2**32 - 1}, "config.job.min_speakers"),
        ({"max_speakers": 101}, "config.job.max_speakers"),
    ],
)
def test_a_job_is_of_sensible_times_and_speakers(fields: dict[str, Any], named: str) -> None:
    """As a speech service takes them: the job would otherwise fail later."""
    with pytest.raises(InvalidJobError) as caught:
        job_service.checked(submission(**fields))
    assert [violation.field for violation in caught.value.violations] == [named]


@pytest.mark.parametrize("number", ["9" * 23, str(2**63), "-1", "9" * 5000])
def test_a_page_token_with_a_number_of_more_than_63_bits_is_none(number: str) -> None:
    """INVALID_ARGUMENT, not what SQLite makes of it."""
    token = base64.urlsafe_b64encode(f"jobs:{number}".encode()).decode()
    with pytest.raises(InvalidJobError, match="page_token"):
        job_service._number_of(token)


def test_large_jobs_end_a_page_early(tmp_path: Path) -> None:
    """A page stays below what a client takes of one message; all pages are the whole list."""
    term = translate_pb2.GlossaryTerm(source="ब" * 200, target="ब" * 200)
    large = jobs_pb2.JobConfig(upload_name="film.wav", glossary=[term] * 400)
    store = SqliteStore(tmp_path)
    try:
        for number in range(6):
            store.submit(str(number), "", large)
        store.submit("small", "", jobs_pb2.JobConfig(upload_name="film.wav"))
        pages: list[list[str]] = []
        before: int | None = 2**63 - 1
        while before is not None:
            jobs, before = store.page([], 1000, before)
            assert sum(job.ByteSize() for job in jobs) < 4 * 1024 * 1024
            pages.append([job.id for job in jobs])
    finally:
        store.close()
    assert len(pages) > 1
    assert [job for page in pages for job in page] == ["small", "5", "4", "3", "2", "1", "0"]
