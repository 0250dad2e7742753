"""The transcript of a job in people's hands: a real job service, its clients, and its disk."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.orchestrator import daemon as stand_ins
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    artifact,
    config,
    ended,
    messages,
    stand_in_services,
)
from tests.orchestrator.stand_in import Translation
from voxroute.common.v1 import common_pb2
from voxroute.jobs.v1 import jobs_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client.jobs import batches
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_orchestrator.jobs.editing.again import Again
from voxroute_orchestrator.jobs.editing.revisions import KEPT, Mark, Revision
from voxroute_orchestrator.transcript import Media, Segment, Transcript, TranslatedSegment, Word

SECONDS = 8
FORMATS = ["srt", "vtt", "ass", "ttml", "json"]
Stub = Any
Segments = list[jobs_pb2.TranscriptSegment]
Head = jobs_pb2.TranscriptHead


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, services: Services) -> Iterator[Daemon]:
    """A service that lives through the tests of this file."""
    flags = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
    running = Daemon(tmp_path_factory.mktemp("daemon"), flags)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def stub(daemon: Daemon) -> Stub:
    """A client."""
    return daemon.stub()


def done(stub: Stub, film: bytes, **fields: Any) -> str:
    """The id of a job that has succeeded."""
    asked = config(**{"upload_name": "film.wav", "formats": FORMATS, **fields})
    job_id = stub.SubmitJob(messages(asked, film), timeout=60).job.id
    assert ended(stub, job_id).state == jobs_pb2.JOB_STATE_SUCCEEDED
    return job_id


@pytest.fixture
def job_id(stub: Stub, film: bytes) -> str:
    """A job that has succeeded, and that nobody has touched."""
    return done(stub, film)


def got(stub: Stub, job_id: str, revision: int = 0) -> tuple[Head, Segments]:
    """A revision."""
    request = jobs_pb2.GetTranscriptRequest(job_id=job_id, revision=revision)
    first, *rest = stub.GetTranscript(request, timeout=60)
    return first.head, [one for reply in rest for one in reply.segments.segments]


def put(
    stub: Stub, job_id: str, base: int, segments: Segments, *, finish: bool = True, **speakers: str
) -> int:
    """Keeps a revision; its number."""

    def requests() -> Iterator[jobs_pb2.PutTranscriptRequest]:
        names = [jobs_pb2.SpeakerName(speaker=k, name=v) for k, v in speakers.items()]
        opening = jobs_pb2.PutTranscriptConfig(job_id=job_id, base_revision=base, speakers=names)
        yield jobs_pb2.PutTranscriptRequest(config=opening)
        for batch in batches(segments):
            yield jobs_pb2.PutTranscriptRequest(segments=batch)
        if finish:
            yield jobs_pb2.PutTranscriptRequest(finish=common_pb2.Finish())

    return stub.PutTranscript(requests(), timeout=60).revision


def exported(stub: Stub, job_id: str, kind: str, language: str = "", revision: int = 0) -> Any:
    """The name and the text of a file."""
    request = jobs_pb2.ExportTranscriptRequest(
        job_id=job_id, revision=revision, format=kind, language=language
    )
    first, *rest = stub.ExportTranscript(request, timeout=60)
    return first.name, b"".join(reply.data for reply in rest).decode()


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """How a call fails: its status, and reason and metadata of its ErrorInfo."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    for detail in rpc_details(error):
        return error.code(), detail.reason, dict(detail.metadata)
    raise AssertionError(error)


def rpc_details(error: Any) -> Iterator[Any]:
    """The ErrorInfos of a failure."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            yield info


def translation(segment: jobs_pb2.TranscriptSegment) -> jobs_pb2.SegmentTranslation:
    """Into English."""
    (only,) = segment.translations
    return only


def test_the_first_revision_is_what_the_job_has_made(stub: Stub, job_id: str) -> None:
    """Every segment with all that is known of it, none of them touched."""
    transcript = Transcript.model_validate_json(artifact(stub, job_id, "film.transcript.json"))
    head, segments = got(stub, job_id)
    assert head.revision == 1
    assert seconds(head.duration) == SECONDS
    assert (list(head.source_languages), list(head.target_languages)) == (["hi"], ["en"])
    for one, segment in zip(segments, transcript.segments, strict=True):
        assert one.id == str(segment.id)
        assert (seconds(one.start), seconds(one.end)) == (segment.start_s, segment.end_s)
        assert (one.text, one.language) == (segment.text, segment.language)
        assert tuple(one.flags) == segment.flags
        assert not one.edited
        item = transcript.translations["en"].items[segment.id - 1]
        assert (translation(one).text, translation(one).status) == (item.text, item.status)
        assert not translation(one).stale
    assert segments[3].flags == ["LOW_CONFIDENCE"]


@pytest.mark.parametrize("form", [{}, {"speaker_prefix": True, "drop_flagged": True}])
def test_the_first_revision_is_exported_as_the_job_has_written_it(
    stub: Stub, film: bytes, form: dict[str, bool]
) -> None:
    """Byte for byte, in every format and language, whatever its subtitles are to be like."""
    job_id = done(stub, film, **form)
    for language, asked in (("hi", ""), ("hi", "hi"), ("en", "en")):
        for kind in FORMATS:
            name, text = exported(stub, job_id, kind, asked)
            assert name == f"film.{language}.{kind}"
            assert text.encode() == artifact(stub, job_id, name)
    _, plain = exported(stub, job_id, "txt")
    assert plain.split() == [f"word{n}" for n in range(SECONDS) if n != 3 or not form]
    for kind, language in (("doc", ""), ("srt", "ta")):
        assert refused(lambda k=kind, x=language: exported(stub, job_id, k, x))[1] == "INVALID_JOB"


def test_what_a_person_changes_is_marked_and_its_translation_is_stale(
    stub: Stub, job_id: str
) -> None:
    """Its text, its time, who says it; a translation that is written anew is not stale."""
    _, segments = got(stub, job_id)
    segments[0].text = "naya"
    segments[1].end.CopyFrom(duration(1.5))
    segments[2].text = "nayi"
    translation(segments[2]).text = "new"
    translation(segments[4]).text = "better"
    segments[6].speaker = "SPEAKER_00"
    del segments[7]
    new = jobs_pb2.TranscriptSegment(
        id="new-1", start=duration(7.2), end=duration(7.8), text="aur", flags=["X"],
        words=[jobs_pb2.TranscriptWord(start=duration(7.2), end=duration(7.8), text="aur")],
    )  # fmt: skip
    assert put(stub, job_id, 1, [new, *segments], SPEAKER_00="Anna", SPEAKER_01=" ") == 2
    head, after = got(stub, job_id)
    assert (head.revision, [(s.speaker, s.name) for s in head.speakers]) == (
        2, [("SPEAKER_00", "Anna")],
    )  # fmt: skip
    assert [one.id for one in after] == ["1", "2", "3", "4", "5", "6", "7", "new-1"]
    assert [one.id for one in after if one.edited] == ["1", "2", "3", "7", "new-1"]
    stale = [one.id for one in after for t in one.translations if t.stale]
    assert stale == ["1"]
    by_hand = [one.id for one in after for t in one.translations if t.edited]
    assert by_hand == ["3", "5"]
    assert (after[-1].language, after[-1].words, after[-1].flags) == ("hi", new.words, ["X"])
    assert seconds(after[1].end) == 1.5
    _, text = exported(stub, job_id, "txt")
    assert text.splitlines()[-2:] == ["Anna: word6", "aur"]
    assert "<v Anna>" in exported(stub, job_id, "vtt")[1]
    assert "better" in exported(stub, job_id, "srt", "en")[1]
    assert got(stub, job_id, 1)[1][0].text == "word0"
    # what was by hand in an earlier revision stays so, also where nothing is sent again
    for one in after:
        del one.translations[:]
        del one.words[:]
    assert put(stub, job_id, 2, after) == 3
    assert [one.edited for one in got(stub, job_id)[1]] == [one.id in "1237new-1" for one in after]
    assert translation(got(stub, job_id)[1][4]).text == "better"
    assert got(stub, job_id)[1][-1].words == new.words


def test_a_text_that_a_person_has_seen_is_not_left_out_as_doubtful(stub: Stub, film: bytes) -> None:
    """A job without doubtful text gets it into its subtitles once somebody has mended it."""
    job_id = done(stub, film, drop_flagged=True)
    _, segments = got(stub, job_id)
    segments[3].text = "teen"
    put(stub, job_id, 1, segments)
    assert "teen" in exported(stub, job_id, "srt")[1]
    assert got(stub, job_id)[1][3].flags == ["LOW_CONFIDENCE"]


def test_doubts_stay_with_the_text_that_they_are_of(stub: Stub, job_id: str) -> None:
    """A client that leaves flags out, or sends others, takes none from a text that it leaves."""
    for sent, text, flags in (
        ([], "", ["LOW_CONFIDENCE"]),
        (["REPETITION"], "", ["LOW_CONFIDENCE"]),
        (["LOW_CONFIDENCE", "REPETITION"], "teen chaar", ["LOW_CONFIDENCE", "REPETITION"]),
        ([], "teen", []),
    ):
        head, segments = got(stub, job_id)
        segments[3].flags[:] = sent
        segments[3].text = text or segments[3].text
        put(stub, job_id, head.revision, segments)
        assert got(stub, job_id)[1][3].flags == flags


def test_what_is_stale_stays_so_when_segments_are_cut_and_joined(stub: Stub, job_id: str) -> None:
    """Until a person writes it, or it is translated again; nobody has written parts of a text."""

    def into_english(segments: Segments) -> list[tuple[str, bool, bool]]:
        return [(t.text, t.stale, t.edited) for one in segments[:3] for t in one.translations]

    def parts(segment: jobs_pb2.TranscriptSegment, text: str, *, stale: bool) -> None:
        del segment.translations[:]
        segment.translations.add(language="en", text=text, stale=stale)

    _, segments = got(stub, job_id)
    translation(segments[0]).text = "by hand"
    assert put(stub, job_id, 1, segments) == 2
    second = jobs_pb2.TranscriptSegment(id="new-1", start=duration(0.5), end=segments[0].end)
    segments[0].end.CopyFrom(duration(0.5))
    segments[0].text, second.text = "wo", "rd0"
    parts(segments[0], "by", stale=True)
    parts(second, "hand", stale=True)
    assert put(stub, job_id, 2, [segments[0], second, *segments[1:]]) == 3
    _, cut = got(stub, job_id)
    assert into_english(cut) == [
        ("by", True, False), ("hand", True, False), ("en:word1", False, False),
    ]  # fmt: skip
    cut[2].text = "rd0 word1"
    parts(cut[2], "hand en:word1", stale=True)
    cut[2].start.CopyFrom(cut[1].start)
    del cut[1]
    assert put(stub, job_id, 3, cut) == 4
    _, joined = got(stub, job_id)
    assert into_english(joined)[:2] == [("by", True, False), ("hand en:word1", True, False)]
    # a client that says nothing of it makes nothing fresh
    parts(joined[1], "hand en:word1", stale=False)
    assert put(stub, job_id, 4, joined) == 5
    _, same = got(stub, job_id)
    assert into_english(same)[1] == ("hand en:word1", True, False)
    # who writes a translation may send the rest as it was read
    parts(same[1], "hand", stale=True)
    assert put(stub, job_id, 5, same) == 6
    assert retranslated(stub, job_id, 6, ["1"]).revision == 7
    assert into_english(got(stub, job_id)[1])[:2] == [
        ("en:wo", False, False),
        ("hand", False, True),
    ]


def test_a_translation_that_is_put_back_is_as_old_as_it_was(stub: Stub, job_id: str) -> None:
    """An undo over what was written by hand, after each key was saved; what is between counts."""
    _, segments = got(stub, job_id)
    made = translation(segments[0]).text
    segments[0].text = "another"
    assert put(stub, job_id, 1, segments) == 2
    for number, (text, stale, edited) in enumerate(
        [("b", False, True), ("by", False, True), ("b", False, True), (made, True, False)], 2
    ):
        one = translation(segments[0])
        one.text, one.stale = text, stale
        assert put(stub, job_id, number, segments) == number + 1
        now = translation(got(stub, job_id)[1][0])
        assert (now.text, now.stale, now.edited) == (text, stale, edited)


def test_an_emptied_segment_is_in_no_subtitles(stub: Stub, job_id: str) -> None:
    """Nor what was translated of it, unless somebody writes that; with its text it comes back."""
    _, segments = got(stub, job_id)
    text, made = segments[0].text, translation(segments[0]).text
    segments[0].text = ""
    assert put(stub, job_id, 1, segments) == 2
    for kind in [*FORMATS, "txt"]:
        assert made not in exported(stub, job_id, kind, "en")[1], kind
    translation(segments[0]).text = "(he sighs)"
    assert put(stub, job_id, 2, segments) == 3
    assert "(he sighs)" in exported(stub, job_id, "srt", "en")[1]
    translation(segments[0]).text, segments[0].text = made, text
    assert put(stub, job_id, 3, segments) == 4
    assert made in exported(stub, job_id, "srt", "en")[1]


def test_what_an_engine_has_written_does_not_keep_people_from_writing(
    stub: Stub, daemon: Daemon, job_id: str
) -> None:
    """A control in a text that nobody has touched is sent back; a new one is refused elsewhere."""
    path = daemon.data / "jobs" / job_id / "results" / "film.transcript.json"
    transcript = Transcript.model_validate_json(path.read_bytes())
    transcript.segments[0] = transcript.segments[0].model_copy(update={"text": "bell\x07"})
    path.write_text(transcript.to_json(), encoding="utf-8")
    _, segments = got(stub, job_id)
    segments[1].text = "another"
    assert put(stub, job_id, 1, segments) == 2
    with pytest.raises(grpc.RpcError, match="U\\+0007, which no screen shows"):
        put(stub, job_id, 2, segments, SPEAKER_00="bell\x07")


def test_what_is_as_the_job_made_it_again_has_no_marks(stub: Stub, job_id: str) -> None:
    """After an undo that comes when the change is saved already; also of a removal."""
    _, segments = got(stub, job_id)
    _, made = got(stub, job_id)
    segments[3].text = "teen"
    segments[3].flags[:] = []
    segments[1].end.CopyFrom(duration(1.5))
    segments[2].text = "nayi"
    translation(segments[2]).text = "new"
    translation(segments[6]).text = "by hand"
    del segments[4]
    assert put(stub, job_id, 1, segments) == 2
    assert [one.id for one in got(stub, job_id)[1] if one.edited] == ["2", "3", "4"]
    back = [jobs_pb2.TranscriptSegment.FromString(one.SerializeToString()) for one in made]
    back[3].flags[:] = []
    assert put(stub, job_id, 2, back) == 3
    assert got(stub, job_id)[1] == made
    # a translation of another text stays stale with the job's text
    translation(back[0]).text, back[0].text = "new", "nayi"
    assert put(stub, job_id, 3, back) == 4
    back[0].text = made[0].text
    assert put(stub, job_id, 4, back) == 5
    after = got(stub, job_id)[1][0]
    assert (after.edited, translation(after).stale, translation(after).edited) == (
        False, True, True,
    )  # fmt: skip


def test_of_two_who_work_on_a_revision_one_is_told_of_the_other(stub: Stub, job_id: str) -> None:
    """Of eight at once one is kept, and the others are told which revision there is."""
    _, segments = got(stub, job_id)
    numbers: list[int] = []
    told: list[tuple[grpc.StatusCode, str, dict[str, str]]] = []

    def work() -> None:
        try:
            numbers.append(put(stub, job_id, 1, segments))
        except grpc.RpcError as error:
            (info,) = rpc_details(error)
            told.append((error.code(), info.reason, dict(info.metadata)))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert numbers == [2]
    assert len(told) == 7
    for code, reason, metadata in told:
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REVISION_CONFLICT")
        assert metadata["revision"] == "2"


def test_what_the_job_itself_has_made_can_be_sent_back(
    stub: Stub, daemon: Daemon, job_id: str
) -> None:
    """Also a word behind the end of the recording, or one that ends before it begins."""
    path = daemon.data / "jobs" / job_id / "results" / "film.transcript.json"
    transcript = Transcript.model_validate_json(path.read_bytes())
    odd = (Word(text="a", start_s=7.5, end_s=9.5), Word(text="b", start_s=9.5, end_s=9.4))
    last = transcript.segments[-1].model_copy(update={"words": odd, "start_s": 9, "end_s": 8})
    transcript.segments[-1] = last
    path.write_text(transcript.to_json(), encoding="utf-8")
    _, segments = got(stub, job_id)
    assert put(stub, job_id, 1, segments) == 2
    assert got(stub, job_id)[1] == segments


def _wrong(**fields: Any) -> Callable[[Segments], None]:
    def change(segments: Segments) -> None:
        for name, value in fields.items():
            segments[1].ClearField(name)
            segments[1].MergeFrom(jobs_pb2.TranscriptSegment(**{name: value}))

    return change


def _doubled(segments: Segments) -> None:
    segments[1].id = segments[0].id


def _too_many(segments: Segments) -> None:
    for number in range(10_000):
        segments.append(jobs_pb2.TranscriptSegment(id=f"n{number}"))


def _word(start_s: float, end_s: float) -> jobs_pb2.TranscriptWord:
    return jobs_pb2.TranscriptWord(start=duration(start_s), end=duration(end_s), text="a")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_wrong(start=Duration(seconds=-1)), "segments[1].start"),
        (_wrong(end=duration(0.5)), "segments[1].end"),
        (_wrong(end=duration(SECONDS + 1)), "segments[1].end"),
        (_wrong(end=Duration(seconds=2**40)), "segments.segments[1].end"),
        (_wrong(text="x" * 5001), "segments[1].text"),
        (_wrong(text="a\x00b"), "segments[1].text"),
        (_wrong(text="a\x1b[2J"), "segments[1].text"),
        (_wrong(text="a\uffffb"), "segments[1].text"),
        (_wrong(words=[jobs_pb2.TranscriptWord(text="\x7f")]), "segments[1].words[0].text"),
        (
            _wrong(translations=[jobs_pb2.SegmentTranslation(language="en", text="\x08")]),
            "segments[1].translations[0].text",
        ),
        (_wrong(language="?"), "segments[1].language"),
        (_wrong(id="new", language="?"), "segments[1].language"),
        (_wrong(flags=["bad flag"]), "segments[1].flags[0]"),
        (_wrong(id=""), "segments[1].id"),
        (_wrong(id="a/b"), "segments[1].id"),
        (_wrong(words=[_word(1, 2)] * 1001), "segments.segments[1].words"),
        (
            _wrong(words=[jobs_pb2.TranscriptWord(text="a", probability=float("nan"))]),
            "segments[1].words[0].probability",
        ),
        (_wrong(words=[_word(1, 2), _word(2, 1)]), "segments[1].words[1].end"),
        (
            _wrong(translations=[jobs_pb2.SegmentTranslation(language="ta", text="x")]),
            "segments[1].translations[0].language",
        ),
        (_doubled, "segments[1].id"),
        (_too_many, "segments"),
    ],
)
def test_what_cannot_be_a_transcript_is_refused_and_nothing_is_kept(
    stub: Stub, daemon: Daemon, one_job: str, change: Callable[[Segments], None], field: str
) -> None:
    """INVALID_ARGUMENT with the field; the revision stays the one that it was."""
    _, segments = got(stub, one_job)
    change(segments)
    with pytest.raises(grpc.RpcError) as caught:
        put(stub, one_job, 1, segments)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    assert error.details().startswith(f"{field}: ")
    assert got(stub, one_job)[0].revision == 1
    assert not list((daemon.data / "uploads").iterdir())


@pytest.fixture(scope="module")
def one_job(stub: Stub, film: bytes) -> str:
    """A job whose transcript nobody can change."""
    return done(stub, film)


def test_jobs_and_revisions_that_there_are_not(stub: Stub, one_job: str) -> None:
    """NOT_FOUND; a job without a transcript is FAILED_PRECONDITION."""
    failed = stub.SubmitJob(messages(config(upload_name="a.wav"), b"x"), timeout=60).job.id
    ended(stub, failed)
    for call in (
        lambda job_id: got(stub, job_id),
        lambda job_id: put(stub, job_id, 1, []),
        lambda job_id: exported(stub, job_id, "srt"),
        lambda job_id: retranslated(stub, job_id, 1, ["1"]),
        lambda job_id: retimed(stub, job_id, 1, ["1"]),
    ):
        assert refused(lambda c=call: c("none"))[:2] == (
            grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND",
        )  # fmt: skip
        assert refused(lambda c=call: c(failed))[:2] == (
            grpc.StatusCode.FAILED_PRECONDITION, "JOB_STATE",
        )  # fmt: skip
    assert refused(lambda: got(stub, one_job, 7))[:2] == (
        grpc.StatusCode.NOT_FOUND, "REVISION_NOT_FOUND",
    )  # fmt: skip
    assert refused(lambda: put(stub, one_job, 1, [], finish=False))[1] == "ABANDONED_STREAM"
    assert refused(lambda: put(stub, one_job, 7, []))[2]["revision"] == "1"


def retranslated(
    stub: Stub, job_id: str, base: int, ids: list[str], *languages: str
) -> jobs_pb2.RetranslateResponse:
    """Translates again."""
    request = jobs_pb2.RetranslateRequest(
        job_id=job_id, base_revision=base, segment_ids=ids, languages=languages
    )
    return stub.Retranslate(request, timeout=60)


def retimed(stub: Stub, job_id: str, base: int, ids: list[str]) -> jobs_pb2.RetimeResponse:
    """Finds the words again."""
    request = jobs_pb2.RetimeRequest(job_id=job_id, base_revision=base, segment_ids=ids)
    return stub.Retime(request, timeout=60)


def test_changed_lines_are_translated_again(stub: Stub, job_id: str) -> None:
    """By the job's services; what fails keeps what it has, and the answer says why."""
    _, segments = got(stub, job_id)
    segments[0].text = "naya"
    segments[1].text = "word5"
    translation(segments[2]).text = "by hand"
    put(stub, job_id, 1, segments)
    answer = retranslated(stub, job_id, 2, ["1", "2", "3"])
    assert answer.revision == 3
    assert [(one.segment_id, one.language, one.reason) for one in answer.left] == [
        ("2", "en", "TRANSLATION_FAILED")
    ]
    _, after = got(stub, job_id)
    assert [translation(one).text for one in after[:3]] == ["en:naya", "en:word1", "en:word2"]
    assert [translation(one).stale for one in after[:3]] == [False, True, False]
    assert not any(translation(one).edited for one in after)
    assert [one.edited for one in after[:3]] == [True, True, False]
    # where nothing comes of it there is no new revision
    assert retranslated(stub, job_id, 3, ["2"]).revision == 3
    for call, field in (
        (lambda: retranslated(stub, job_id, 3, ["99"]), "segment_ids[0]"),
        (lambda: retranslated(stub, job_id, 3, []), "segment_ids"),
        (lambda: retranslated(stub, job_id, 3, ["1"], "ta"), "languages[0]"),
    ):
        with pytest.raises(grpc.RpcError, match=f"{field.split('[')[0]}"):
            call()
    assert refused(lambda: retranslated(stub, job_id, 2, ["1"]))[2]["revision"] == "3"


def test_what_is_written_during_the_work_stays_and_so_does_the_work(
    film: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revisions come while a service translates: it is told which segments are others by then."""
    at_work, goes_on = threading.Event(), threading.Event()
    goes_on.set()

    class Slow(Translation):
        async def Translate(  # noqa: N802 - the contract's name
            self, request_iterator: Any, context: Any
        ) -> AsyncIterator[translate_pb2.TranslateResponse]:
            at_work.set()
            await asyncio.to_thread(goes_on.wait, 60)
            async for response in super().Translate(request_iterator, context):
                yield response

    monkeypatch.setattr(stand_ins, "Translation", Slow)
    with stand_in_services() as own:
        flags = ("--asr-endpoints", own.asr, "--translate-endpoints", own.translate)
        service = Daemon(tmp_path, flags)
        service.start()
        try:
            stub = service.stub()
            job_id = done(stub, film)
            _, segments = got(stub, job_id)
            for one in segments[:5]:
                one.text += " naya"
            put(stub, job_id, 1, segments)
            at_work.clear()
            goes_on.clear()
            ids = [one.id for one in segments[:5]]
            with ThreadPoolExecutor() as pool:
                answer = pool.submit(retranslated, stub, job_id, 2, ids)
                assert at_work.wait(30)
                segments[0].text = "mine"
                translation(segments[1]).text = "by hand"
                segments[3].speaker = "SPEAKER_00"
                segments[7].text = "elsewhere"
                put(stub, job_id, 2, segments)
                del segments[4]
                put(stub, job_id, 3, segments, SPEAKER_00="Anna")
                goes_on.set()
                told = answer.result(60)
            head, after = got(stub, job_id)
        finally:
            goes_on.set()
            service.close()
    assert (told.revision, head.revision, head.speakers[0].name) == (5, 5, "Anna")
    assert [(one.segment_id, one.language, one.reason) for one in told.left] == [
        ("1", "en", "CHANGED"), ("2", "en", "CHANGED"), ("5", "en", "CHANGED"),
    ]  # fmt: skip
    assert [(one.text, translation(one).text, translation(one).stale) for one in after[:4]] == [
        ("mine", "en:word0", True),
        ("word1 naya", "by hand", False),
        ("word2 naya", "en:word2 naya", False),
        ("word3 naya", "en:word3 naya", False),
    ]
    assert (after[3].speaker, after[-1].text) == ("SPEAKER_00", "elsewhere")
    assert [one.id for one in after] == ["1", "2", "3", "4", "6", "7", "8"]


def test_times_are_for_the_segments_that_have_stayed_where_they_were() -> None:
    """Words that were found in another stretch of the recording are nobody's."""
    texts = ["a", "b", "c", "d"]
    segments = [
        Segment(id=n, start_s=n, end_s=n + 0.5, text=text, language="hi")
        for n, text in enumerate(texts, 1)
    ]
    media = Media(
        path="film.wav", title="film", duration_s=8, audio_start_s=0,
        format="wav", audio_codec="pcm_s16le", audio_stream=0,
    )  # fmt: skip
    transcript = Transcript(voxroute_version="1", media=media, language="hi", segments=segments)
    base = Revision(number=2, transcript=transcript)
    work = Again(base)
    for one in segments:
        words = (Word(text=one.text, start_s=one.start_s + 0.1, end_s=one.start_s + 0.2),)
        times = {"words": words, "start_s": one.start_s + 0.1, "end_s": one.start_s + 0.2}
        work.timed[one.id] = one.model_copy(update=times)
    others = {1: {"text": "x"}, 2: {"end_s": 2.6}, 3: {"speaker": "SPEAKER_00"}}
    meanwhile = [one.model_copy(update=others.get(one.id, {})) for one in segments]
    newest = base.with_segments(meanwhile, {3: Mark(edited=True)})
    found, left = work.put_on(newest)
    assert [(one.segment_id, one.reason) for one in left] == [("1", "CHANGED"), ("2", "CHANGED")]
    assert [one.start_s for one in found.transcript.segments] == [1, 2, 3.1, 4.1]
    assert [len(one.words) for one in found.transcript.segments] == [0, 0, 1, 1]
    assert found.transcript.segments[2].speaker == "SPEAKER_00"
    assert found.marks == newest.marks
    assert work.put_on(base)[1] == []


def test_words_that_no_service_can_time_stay_as_they_are(stub: Stub, one_job: str) -> None:
    """The answer says why, and there is no new revision."""
    answer = retimed(stub, one_job, 1, ["1", "2"])
    assert answer.revision == 1
    assert [(one.segment_id, one.reason) for one in answer.left] == [
        ("1", "NO_ALIGNER"), ("2", "NO_ALIGNER"),
    ]  # fmt: skip


def test_the_newest_revisions_are_kept_and_the_first(
    stub: Stub, daemon: Daemon, job_id: str
) -> None:
    """Of more than twenty the oldest go; DeleteJob removes all."""
    _, segments = got(stub, job_id)
    for base in range(1, KEPT + 3):
        segments[0].text = f"text {base + 1}"
        assert put(stub, job_id, base, segments) == base + 1
    newest = KEPT + 3
    there = [number for number in range(1, newest + 1) if _has(stub, job_id, number)]
    assert there == [1, *range(newest - KEPT + 1, newest + 1)]
    stub.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id), timeout=60)
    assert not (daemon.data / "jobs" / job_id).exists()


def _has(stub: Stub, job_id: str, number: int) -> bool:
    try:
        head, segments = got(stub, job_id, number)
    except grpc.RpcError:
        return False
    assert head.revision == number
    assert segments[0].text == ("word0" if number == 1 else f"text {number}")
    return True


def test_a_job_that_runs_again_begins_with_its_own_transcript(stub: Stub, job_id: str) -> None:
    """What people have made of the one before is thrown away with it."""
    _, segments = got(stub, job_id)
    segments[0].text = "naya"
    put(stub, job_id, 1, segments)
    stub.ResumeJob(jobs_pb2.ResumeJobRequest(job_id=job_id, restart=True), timeout=60)
    ended(stub, job_id)
    head, again = got(stub, job_id)
    assert (head.revision, again[0].text) == (1, "word0")


def test_a_service_that_is_killed_has_the_old_revision_or_the_new_one(
    services: Services, film: bytes, tmp_path: Path
) -> None:
    """At whatever moment: what a client was told is there, whole, and the next one can follow."""
    flags = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
    service = Daemon(tmp_path, flags)
    try:
        service.start()
        job_id = done(service.stub(), film)
        _, segments = got(service.stub(), job_id)
        for more in range(9, 600):  # some megabytes, so that writing takes a while
            segments.append(
                jobs_pb2.TranscriptSegment(
                    id=f"new-{more}", start=duration(7), end=duration(8), text="शब्द " * 200
                )
            )
        told = 1
        for round_ in range(2):
            stub, kept = service.stub(), [told]

            def work(stub: Stub = stub, kept: list[int] = kept) -> None:
                while True:
                    try:
                        segments[0].text = f"text {kept[-1] + 1}"
                        kept.append(put(stub, job_id, kept[-1], segments))
                    except grpc.RpcError:
                        return

            thread = threading.Thread(target=work)
            thread.start()
            time.sleep(0.25 + 0.17 * round_)
            service.end(signal.SIGKILL)
            thread.join(60)
            service.start()
            assert not list((service.data / "uploads").iterdir())
            head, found = got(service.stub(), job_id)
            told = head.revision
            assert told in {kept[-1], kept[-1] + 1}
            assert found[0].text == ("word0" if told == 1 else f"text {told}")
            assert len(found) == (SECONDS if told == 1 else len(segments))
        segments[0].text = "at last"
        assert put(service.stub(), job_id, told, segments) == told + 1
    finally:
        service.close()


def test_where_no_service_answers_nothing_changes(film: bytes, tmp_path: Path) -> None:
    """UNAVAILABLE, and at once: who waits is a person."""
    with stand_in_services() as own:
        flags = ("--asr-endpoints", own.asr, "--translate-endpoints", own.translate)
        service = Daemon(tmp_path, flags)
        service.start()
        job_id = done(service.stub(), film)
    try:
        stub = service.stub()
        for call in (retranslated, retimed):
            assert refused(lambda c=call: c(stub, job_id, 1, ["1"]))[:2] == (
                grpc.StatusCode.UNAVAILABLE, "NOT_READY",
            )  # fmt: skip
        assert got(stub, job_id)[0].revision == 1
    finally:
        service.close()


def test_five_thousand_segments_with_words_go_both_ways(
    stub: Stub, daemon: Daemon, job_id: str
) -> None:
    """More than gRPC takes in one message; words, probabilities and stretches stay as they are."""
    path = daemon.data / "jobs" / job_id / "results" / "film.transcript.json"
    transcript = Transcript.model_validate_json(path.read_bytes())
    text = " ".join(["शब्दावली"] * 26)
    segments = [
        Segment(
            id=n,
            start_s=n * 1.001,
            end_s=n * 1.001 + 0.9,
            text=text,
            language="hi",
            words=tuple(
                Word(
                    text=one, start_s=n * 1.001 + k / 100, end_s=n * 1.001 + k / 99, confidence=0.7
                )
                for k, one in enumerate(text.split()[:4])
            ),
            avg_log_prob=-0.123456,
        )
        for n in range(1, 5001)
    ]
    transcript.segments = segments
    transcript.translations["en"].items = [
        TranslatedSegment(segment_id=n, text="a vocabulary of words", status="OK")
        for n in range(1, 5001)
    ]
    path.write_text(transcript.to_json(), encoding="utf-8")
    sent = got(stub, job_id)[1]
    assert sum(one.ByteSize() for one in sent) > 4 * 1024**2
    assert len(sent) == 5000
    assert put(stub, job_id, 1, sent) == 2
    (kept,) = (daemon.data / "jobs" / job_id / "revisions").glob("*.json")
    after = json.loads(kept.read_bytes())
    assert after["transcript"]["segments"] == json.loads(transcript.to_json())["segments"]
    assert after["marks"] == {}
    assert kept.stat().st_mode & 0o777 == 0o600
