"""Captions on a terminal: what is settled stays, what may change is rewritten."""

import io
import sys

import pytest

from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.cli.terminal.captions import LineCaptions
from voxroute_orchestrator.cli.terminal.live_captions import Console, TerminalCaptions
from voxroute_orchestrator.cli.terminal.progress import LineReporter

Reply = asr_pb2.TranscribeLiveResponse


def _speech(reply: Reply) -> live_pb2.CaptionResponse:
    return live_pb2.CaptionResponse(speech=reply)


def _committed(text: str, utterance: int = 1) -> live_pb2.CaptionResponse:
    return _speech(Reply(committed=asr_pb2.Committed(utterance=utterance, text=text)))


def _tentative(text: str) -> live_pb2.CaptionResponse:
    return _speech(Reply(tentative=asr_pb2.Tentative(utterance=1, text=text)))


def _utterance(text: str, utterance: int = 1) -> live_pb2.CaptionResponse:
    segments = [asr_pb2.Segment(text=text)]
    return _speech(Reply(utterance=asr_pb2.Utterance(utterance=utterance, segments=segments)))


def _sentence(number: int, text: str, utterance: int = 1) -> live_pb2.CaptionResponse:
    sentence = live_pb2.Sentence(utterance=utterance, sentence=number, text=text)
    return live_pb2.CaptionResponse(sentence=sentence)


def _translated(number: int, text: str) -> live_pb2.CaptionResponse:
    status = translate_pb2.ITEM_STATUS_OK if text else translate_pb2.ITEM_STATUS_FAILED
    translated = live_pb2.Translated(
        sentence=number, target_language="en", text=text, status=status, detail="" if text else "no"
    )
    return live_pb2.CaptionResponse(translated=translated)


def _lines(*targets: str) -> LineCaptions:
    return LineCaptions(targets, LineReporter(sys.stderr))


def test_a_pipe_has_whole_utterances_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A translation follows once all of its sentences are there; a late one holds up no speech."""
    shown = _lines("en")
    for event in (
        _committed(" ek. do"), _sentence(1, "ek."), _translated(1, "One."), _sentence(2, "do"),
        _utterance("ek. do"), _committed(" teen", 2), _sentence(3, "teen", 2),
        _utterance("teen", 2), _translated(2, "two"), _translated(3, ""),
    ):  # fmt: skip
        shown.take(event)
    lines = ["ek. do", "teen", "en: One. two", "en: [not translated: no]"]
    assert capsys.readouterr().out.splitlines() == lines
    assert not shown.said


def test_text_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes from a model, and a service."""
    _lines().take(_utterance("a\x1b[2Jb\nc"))
    assert capsys.readouterr().out == "a\\x1b[2Jb\\nc\n"


def test_a_terminal_shows_what_may_change_dim_and_rewrites_it() -> None:
    """What is told stays above."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, color_system="standard")
    told = LineReporter(sys.stderr)
    with TerminalCaptions(("en",), told, console, quiet=False) as shown:
        shown.take(_committed(" ek"))
        shown.take(_tentative(" doo"))
        assert "ek\x1b[2m doo\x1b[0m" in file.getvalue()
        file.truncate(0)
        shown.take(_committed(" do."))
        assert "doo" not in file.getvalue()
        assert "\x1b[2K" in file.getvalue()
        shown.take(_sentence(1, "ek do."))
        shown.take(_translated(1, "One two."))
        assert "One two." in file.getvalue()
        shown.take(_utterance("ek do."))
        shown.warn("it is late")
    assert "warning: it is late" in file.getvalue()
    assert file.getvalue().rstrip("\n").count("\n") < 20
