"""Transcripts over HTTP, by real services: read, changed, timed and translated again, exported."""

import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.gateway.test_jobs import client, ended, submit

__all__ = ["client"]


@pytest.fixture(scope="module")
def path(client: httpx.Client, short: Path) -> str:
    """Where a job is that has succeeded; the tests change its transcript one after the other."""
    job = ended(client, submit(client, short, align=True)["id"])
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    return f"/api/jobs/{job['id']}"


def got(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    """A revision."""
    answer = client.get(f"{path}/transcript", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(client: httpx.Client, path: str, transcript: dict[str, Any]) -> int:
    """Keeps a revision; its number."""
    asked = {
        "base_revision": transcript["revision"],
        "segments": transcript["segments"],
        "speakers": transcript["speakers"],
    }
    answer = client.put(f"{path}/transcript", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["revision"]


def test_the_first_revision_has_what_the_jobs_file_has(client: httpx.Client, path: str) -> None:
    """The same numbers, and the exports are the files of the job."""
    told = got(client, path)
    file = client.get(f"{path}/artifacts/evening.transcript.json").json()
    assert told["revision"] == 1
    assert (told["source_languages"], told["target_languages"]) == (["en"], ["hi"])
    assert told["duration_s"] == pytest.approx(file["media"]["duration_s"])
    assert told["untranscribed"] == file["untranscribed"]
    for one, segment in zip(told["segments"], file["segments"], strict=True):
        assert one["id"] == str(segment["id"])
        for name in ("start_s", "end_s", "text", "language", "speaker", "flags"):
            assert one[name] == segment[name]
        words = [
            {"start_s": w["start_s"], "end_s": w["end_s"], "text": w["text"]}
            | ({} if w["confidence"] is None else {"probability": w["confidence"]})
            for w in segment["words"]
        ]
        assert one["words"] == words
        assert one["edited"] is False
    for kind, language in (("srt", "en"), ("vtt", "hi")):
        query = {"format": kind, "language": language, "revision": 1}
        export = client.get(f"{path}/export", params=query)
        same = client.get(f"{path}/artifacts/evening.{language}.{kind}")
        assert export.content == same.content
        for header in ("content-type", "content-disposition", "x-content-type-options"):
            assert export.headers[header] == same.headers[header]


def test_each_segment_is_a_line(client: httpx.Client, path: str) -> None:
    """So that who reads by lines need not wait for the last; HEAD has the headers alone."""
    answer = client.get(f"{path}/transcript")
    first, *lines, last = answer.text.split("\n")
    told = answer.json()
    assert json.loads(f"{first}]}}") == {**told, "segments": []}
    assert [json.loads(line.removesuffix(",")) for line in lines] == told["segments"]
    assert last == "]}"
    head = client.head(f"{path}/transcript")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]


def test_a_person_changes_a_transcript_and_services_do_the_rest(
    client: httpx.Client, path: str
) -> None:
    """A text is edited, its words are found in the recording, and it is translated again."""
    told = got(client, path)
    first = told["segments"][0]
    before = first["words"]
    assert before, first
    text = " ".join(word["text"] for word in before[1:])  # without its first word
    first["text"] = text
    told["speakers"] = {"SPEAKER_00": "Anna"}
    revision = put(client, path, told)
    edited = got(client, path)["segments"][0]
    assert (edited["edited"], edited["translations"]["hi"]["stale"]) == (True, True)
    assert edited["words"] == before  # as they were sent; they are not those of the text
    asked = {"base_revision": revision, "segment_ids": [first["id"]]}
    timed = client.post(f"{path}/retime", json=asked)
    assert timed.status_code == 200, timed.text
    assert timed.json() == {"revision": revision + 1, "left": []}
    now = got(client, path)["segments"][0]
    assert " ".join(word["text"] for word in now["words"]) == text
    assert now["start_s"] == now["words"][0]["start_s"]
    assert now["start_s"] == pytest.approx(before[1]["start_s"], abs=0.3)
    assert now["end_s"] == now["words"][-1]["end_s"]
    by_hand = got(client, path)
    by_hand["segments"][0]["translations"]["hi"]["text"] = "अपने हाथ से"
    revision = put(client, path, by_hand)
    hindi = got(client, path)["segments"][0]["translations"]["hi"]
    assert (hindi["text"], hindi["stale"], hindi["edited"]) == ("अपने हाथ से", False, True)
    asked = {"base_revision": revision, "segment_ids": [first["id"]], "languages": ["hi"]}
    translated = client.post(f"{path}/retranslate", json=asked)
    assert translated.json() == {"revision": revision + 1, "left": []}
    whole = got(client, path)
    hindi = whole["segments"][0]["translations"]["hi"]
    assert (hindi["stale"], hindi["edited"]) == (False, False)
    assert hindi["text"] not in {"", "अपने हाथ से"}
    assert whole["speakers"] == {"SPEAKER_00": "Anna"}
    plain = client.get(f"{path}/export", params={"format": "txt"})
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.text.splitlines()[0] == text
    # what cannot be done is told, and there is no new revision
    whole["segments"][0]["text"] = ""
    revision = put(client, path, whole)
    asked = {"base_revision": revision, "segment_ids": [first["id"]]}
    nothing = client.post(f"{path}/retime", json=asked).json()
    assert nothing["revision"] == revision
    assert [(one["segment_id"], one["reason"]) for one in nothing["left"]] == [
        (first["id"], "ALIGNMENT_FAILED")
    ]
    empty = client.post(f"{path}/retranslate", json=asked).json()
    assert empty == {"revision": revision + 1, "left": []}
    assert got(client, path)["segments"][0]["translations"]["hi"]["text"] == ""


def test_who_was_slower_is_told_the_newest_revision(client: httpx.Client, path: str) -> None:
    """409, for each of the three that make a revision."""
    told = got(client, path)
    newest = put(client, path, told)
    late = {"base_revision": told["revision"], "segment_ids": ["1"]}
    answers = [
        client.put(f"{path}/transcript", json={**late, "segments": [], "speakers": {}}),
        client.post(f"{path}/retime", json=late),
        client.post(f"{path}/retranslate", json=late),
    ]
    for answer in answers:
        assert answer.status_code == 409
        error = answer.json()["error"]
        assert (error["code"], error["current_revision"]) == ("revision_conflict", newest)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"base_revision": 1, "speakers": {}}', "segments"),
        ('{"base_revision": 1, "segments": []}', "speakers"),
        ('{"segments": [], "speakers": {}}', "base_revision"),
        ('{"base_revision": true, "segments": [], "speakers": {}}', "base_revision"),
        ('{"base_revision": 1, "segments": [3], "speakers": {}}', "segments[0]"),
        ('{"base_revision": 1, "segments": [], "speakers": {"a": 1}}', "speakers"),
        *(
            (
                json.dumps(
                    {
                        "base_revision": 1,
                        "speakers": {},
                        "segments": [{"id": "1", "start_s": 0, "end_s": 1, "text": "", **wrong}],
                    }
                ),
                f"segments[0].{name}",
            )
            for wrong, name in (
                ({"start_s": float("nan")}, "start_s"),
                ({"end_s": float("inf")}, "end_s"),
                ({"end_s": 10**400}, "end_s"),
                ({"end_s": "1"}, "end_s"),
                ({"text": None}, "text"),
                ({"words": [{"start_s": 0, "text": ""}]}, "words[0].end_s"),
                ({"translations": []}, "translations"),
                ({"flags": "X"}, "flags"),
            )
        ),
    ],
)
def test_what_is_wrong_with_a_transcript_is_told(
    client: httpx.Client, path: str, body: str, param: str
) -> None:
    """With the field; numbers that are none of JSON's are refused too."""
    headers = {"Content-Type": "application/json"}
    answer = client.put(f"{path}/transcript", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_what_the_job_service_refuses_is_told_with_its_field(
    client: httpx.Client, path: str
) -> None:
    """A segment that ends before it begins, and one behind the end of the recording."""
    told = got(client, path)
    for start_s, end_s, name in ((1, 0.5, "end"), (-1, 1, "start"), (0, 1e6, "end")):
        segment = {"id": "1", "start_s": start_s, "end_s": end_s, "text": "x"}
        asked = {"base_revision": told["revision"], "segments": [segment], "speakers": {}}
        answer = client.put(f"{path}/transcript", json=asked)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == f"segments[0].{name}"
    for where, code in (("none", "job_not_found"),):
        missing = client.get(f"/api/jobs/{where}/transcript")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, code)
    gone = client.get(f"{path}/transcript", params={"revision": 999})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "revision_not_found")


def test_a_transcript_may_be_larger_than_other_json(client: httpx.Client, path: str) -> None:
    """Ten megabytes come in one PUT, and no more than 32."""
    told = got(client, path)
    last = told["segments"][-1]
    told["segments"] += [
        {"id": f"new-{n}", "start_s": last["end_s"], "end_s": last["end_s"], "text": "x" * 5000}
        for n in range(2000)
    ]
    revision = put(client, path, told)
    assert len(got(client, path)["segments"]) == len(told["segments"])
    told["segments"] = told["segments"][:-2000]
    told["revision"] = revision
    assert put(client, path, told) == revision + 1
    body = b'{"base_revision": 1, "segments": [' + b" " * (32 * 2**20) + b"]}"
    headers = {"Content-Type": "application/json"}
    assert client.put(f"{path}/transcript", content=body, headers=headers).status_code == 413


def test_a_refusal_comes_through_however_much_is_on_its_way(
    client: httpx.Client, path: str
) -> None:
    """The job service ends the call while segments are still sent, and its reason is not lost."""
    told = got(client, path)
    many = [
        {"id": f"new-{n}", "start_s": 0, "end_s": 0.1, "text": "x" * 900} for n in range(12_000)
    ]
    asked = {"base_revision": told["revision"], "segments": many, "speakers": {}}
    for _ in range(3):
        answer = client.put(f"{path}/transcript", json=asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "segments")
    gone = client.put("/api/jobs/none/transcript", json={**asked, "segments": many[:2000]})
    assert gone.status_code == 404
