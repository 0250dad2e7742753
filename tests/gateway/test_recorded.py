"""Requests of programs that cannot be installed here, as recorded, and what each reads back.

Recorded from the libraries that they send with (aiohttp, requests, openai-python, axios with
form-data) or, for .NET, put together as its HttpClient writes them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.wire import Answer, recorded, send

OPEN_WEBUI = """
POST /v1/audio/transcriptions HTTP/1.1
Host: gateway:8000
Authorization: Bearer sk-0
Accept: */*
Accept-Encoding: gzip, deflate
User-Agent: Python/3.11 aiohttp/3.14.5
Content-Type: multipart/form-data; boundary=BOUNDARY
Transfer-Encoding: chunked

--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name="model"

whisper-1
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name="language"

en
--BOUNDARY
Content-Type: application/octet-stream
Content-Disposition: form-data; name="file"; filename="3f2a.wav"

<FILE>
--BOUNDARY--
"""

HOME_ASSISTANT = """
POST /v1/audio/transcriptions HTTP/1.1
Host: gateway:8000
Accept-Encoding: gzip, deflate
Connection: keep-alive
authorization: Bearer sk-0
accept: application/json
user-agent: AsyncOpenAI/Python 3.57.0
x-stainless-lang: python
x-stainless-async: async:asyncio
x-stainless-retry-count: 0
x-stainless-read-timeout: 600
Content-Length: <LENGTH>
Content-Type: multipart/form-data; boundary=BOUNDARY

--BOUNDARY
Content-Disposition: form-data; name="model"

gpt-4o-mini-transcribe
--BOUNDARY
Content-Disposition: form-data; name="language"

en
--BOUNDARY
Content-Disposition: form-data; name="prompt"

The following conversation is a smart home user talking to Home Assistant.
--BOUNDARY
Content-Disposition: form-data; name="response_format"

json
--BOUNDARY
Content-Disposition: form-data; name="file"; filename="a.wav"
Content-Type: audio/x-wav

<FILE>
--BOUNDARY--
"""

# The integration "OpenAI Whisper Cloud": the key may be empty, the language has a region.
HOME_ASSISTANT_CLOUD = """
POST /v1/audio/transcriptions HTTP/1.1
Host: gateway:8000
User-Agent: python-requests/2.34.2
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Authorization: Bearer\x20
Content-Length: <LENGTH>
Content-Type: multipart/form-data; boundary=BOUNDARY

--BOUNDARY
Content-Disposition: form-data; name="model"

whisper-1
--BOUNDARY
Content-Disposition: form-data; name="language"

en-US
--BOUNDARY
Content-Disposition: form-data; name="temperature"

0
--BOUNDARY
Content-Disposition: form-data; name="prompt"


--BOUNDARY
Content-Disposition: form-data; name="file"; filename="audio.wav"
Content-Type: audio/wav

<FILE>
--BOUNDARY--
"""

N8N = """
POST /v1/audio/{work} HTTP/1.1
Accept: application/json,text/*;q=0.99
Content-Type: multipart/form-data; boundary=--------------------------BOUNDARY
Authorization: Bearer sk-0
User-Agent: axios/1.21.1
Content-Length: <LENGTH>
Accept-Encoding: gzip, compress, deflate, br
Host: gateway:8000
Connection: keep-alive

----------------------------BOUNDARY
Content-Disposition: form-data; name="model"

whisper-1
----------------------------BOUNDARY
Content-Disposition: form-data; name="temperature"

0.2
----------------------------BOUNDARY
Content-Disposition: form-data; name="file"; filename="voice.wav"
Content-Type: audio/wav

<FILE>
----------------------------BOUNDARY--
"""

DIFY = """
POST /v1/audio/transcriptions HTTP/1.1
Host: gateway:8000
User-Agent: python-requests/2.34.2
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Authorization: Bearer sk-0
Content-Length: <LENGTH>
Content-Type: multipart/form-data; boundary=BOUNDARY

--BOUNDARY
Content-Disposition: form-data; name="model"

whisper-1
--BOUNDARY
Content-Disposition: form-data; name="file"; filename="audio.wav"

<FILE>
--BOUNDARY--
"""

# .NET quotes the boundary, and names only where it must; a name that is not ASCII comes twice.
SUBTITLE_EDIT = """
POST /v1/audio/transcriptions HTTP/1.1
Host: gateway:8000
Content-Type: multipart/form-data; boundary="BOUNDARY"
Content-Length: <LENGTH>

--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=model

whisper-1
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=language

en
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=response_format

verbose_json
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name="timestamp_granularities[]"

segment
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name="timestamp_granularities[]"

word
--BOUNDARY
Content-Type: audio/wav
Content-Disposition: form-data; name=file; filename="=?utf-8?B?4KSu4KWA4KSw4KS+Lndhdg==?="; filename*=utf-8''%E0%A4%AE%E0%A5%80%E0%A4%B0%E0%A4%BE.wav

<FILE>
--BOUNDARY--
"""  # noqa: E501 - one header

SUBTITLE_EDIT_STREAM = """
POST /v1/audio/transcriptions HTTP/1.1
Host: gateway:8000
Authorization: Bearer sk-0
Content-Type: multipart/form-data; boundary="BOUNDARY"
Content-Length: <LENGTH>

--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=model

whisper-1
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=response_format

json
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=stream

true
--BOUNDARY
Content-Type: text/plain; charset=utf-8
Content-Disposition: form-data; name=temperature

0.20
--BOUNDARY
Content-Type: audio/wav
Content-Disposition: form-data; name=file; filename=audio.wav; filename*=utf-8''audio.wav

<FILE>
--BOUNDARY--
"""

SUBTITLE_EDIT_TRANSLATE = """
POST /translate HTTP/1.1
Host: gateway:8000
accept: application/json
Content-Type: application/json
Content-Length: <LENGTH>

{"q": "- मैं घर जाता हूँ।<br />- मीरा, चाबी कहाँ है?", "source": "hi", "target": "en", "api_key": "k"}"""

# Bazarr's translator: what it sends to Lingarr, with the cues' line feeds.
LINGARR = r"""
POST /api/translate/content HTTP/1.1
Host: gateway:8000
User-Agent: python-requests/2.34.2
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Content-Type: application/json
X-Api-Key: sk-0
Content-Length: <LENGTH>

{"arrMediaId": 7, "title": "Film", "sourceLanguage": "hi", "targetLanguage": "en", "mediaType": "Movie", "lines": [{"position": 0, "line": "- \u092e\u0948\u0902 \u0918\u0930 \u091c\u093e\u0924\u093e \u0939\u0942\u0901\u0964\n- \u0939\u093e\u0901\u0964"}, {"position": 1, "line": ""}]}"""  # noqa: E501 - one line

MODELS = """
GET /v1/models HTTP/1.1
Accept: application/json
Authorization: Bearer sk-0
Host: gateway:8000

"""


def read_text(answer: Answer) -> str:
    """Of programs that want `text` of 200 with JSON's content type."""
    assert answer.status == 200, answer.body
    return answer.json()["text"]


def read_whatever_comes(answer: Answer) -> str:
    """Of those that never look at the status."""
    return answer.json().get("text", "")


def _segment(one: dict[str, Any]) -> str:
    """A segment whose numbers .NET can read: a whole one is no 1.0, and none is null."""
    assert isinstance(one["id"], int)
    assert isinstance(one["seek"], int)
    numbers = [one[name] for name in ("start", "end", "avg_logprob", "no_speech_prob")]
    assert all(isinstance(number, int | float) for number in numbers)
    assert one["start"] < one["end"]
    return one["text"]


def read_segments(answer: Answer) -> str:
    """Subtitle Edit's, without a stream."""
    content = answer.json()
    assert isinstance(content["duration"], float)
    assert all(isinstance(word["word"], str) for word in content["words"])
    return " ".join(_segment(one) for one in content["segments"])


def read_stream(answer: Answer) -> str:
    """Subtitle Edit's of a stream: lines `event:` name what `data:` holds, times are nested."""
    assert answer.content_type.startswith("text/event-stream")
    deltas: list[str] = []
    segments: list[str] = []
    kind = ""
    for line in answer.body.decode().splitlines():
        if line.startswith("event:"):
            kind = line[6:].strip()
        elif not line:
            kind = ""
        elif line.startswith("data:") and kind:
            content = Answer(200, "application/json", line[5:].encode()).json()
            if kind == "transcript.text.delta":
                deltas.append(content["delta"])
            elif kind == "transcript.text.segment":
                segments.append(_segment(content["segment"]))
    assert "".join(deltas) == " ".join(segments)
    return " ".join(segments)


@pytest.fixture(scope="module")
def spoken(server: Gateway, short: Path) -> str:
    """What is said in the monologue."""
    return read_text(send(server, recorded(DIFY, short.read_bytes())))


@pytest.mark.parametrize(
    ("request_text", "read"),
    [
        pytest.param(OPEN_WEBUI, read_text, id="open-webui"),
        pytest.param(HOME_ASSISTANT, read_text, id="home-assistant"),
        pytest.param(HOME_ASSISTANT_CLOUD, read_whatever_comes, id="home-assistant-cloud"),
        pytest.param(N8N.format(work="transcriptions"), read_text, id="n8n"),
        pytest.param(N8N.format(work="translations"), read_text, id="n8n-translate"),
        pytest.param(DIFY, read_text, id="dify"),
        pytest.param(SUBTITLE_EDIT, read_segments, id="subtitle-edit"),
        pytest.param(SUBTITLE_EDIT_STREAM, read_stream, id="subtitle-edit-stream"),
    ],
)
def test_a_program_reads_what_is_said(
    server: Gateway, short: Path, spoken: str, request_text: str, read: Callable[[Answer], str]
) -> None:
    """From its own request, in its own way. A prompt costs the small model some words.

    Which ones depends on the processor's arithmetic.
    """
    assert "the doctor is sleeping" in spoken
    heard = read(send(server, recorded(request_text, short.read_bytes())))
    assert jiwer.wer(spoken, heard) <= (0.2 if 'name="prompt"' in request_text else 0)


@pytest.mark.parametrize("request_text", [OPEN_WEBUI, HOME_ASSISTANT_CLOUD, DIFY, SUBTITLE_EDIT])
def test_a_program_is_told_what_is_wrong(server: Gateway, request_text: str) -> None:
    """In the sentence that it shows; who looks at no status finds no text."""
    answer = send(server, recorded(request_text, b"no audio at all " * 100))
    assert answer.status == 400
    assert "no media file" in answer.json()["error"]["message"]
    assert read_whatever_comes(answer) == ""


def test_a_program_finds_the_models(server: Gateway) -> None:
    """As n8n and Home Assistant do to try out the key."""
    answer = send(server, recorded(MODELS))
    assert answer.status == 200
    assert answer.json()["data"][0]["object"] == "model"


def test_subtitle_edit_keeps_the_turns_of_a_cue(server: Gateway) -> None:
    """Its line feeds are `<br />`, there and back."""
    answer = send(server, recorded(SUBTITLE_EDIT_TRANSLATE))
    assert answer.status == 200, answer.body
    first, second = answer.json()["translatedText"].split("<br />")
    assert first.startswith("- ")
    assert second.startswith("- ")
    assert (first + second).isascii()


def test_bazarr_finds_each_line_under_its_position(server: Gateway) -> None:
    """A list and nothing else, or it has no translation; a cue without text stays without."""
    answer = send(server, recorded(LINGARR))
    assert answer.status == 200, answer.body
    lines = {one["position"]: one["line"] for one in answer.json()}
    assert set(lines) == {0, 1}
    assert [turn[:2] for turn in lines[0].split("\n")] == ["- ", "- "]
    assert lines[0].isascii()
    assert lines[1] == ""
