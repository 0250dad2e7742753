"""The options of OpenAI's transcription sessions, in all shapes that clients send, and as ours."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.errors import bad_field
from voxroute_gateway.languages import tag_of
from voxroute_orchestrator.client.messages import duration

TENTATIVE = "voxroute.tentative"
"""What a session includes that wants tentative text."""
_FORMATS = {
    "audio/pcm": "audio/pcm",
    "pcm16": "audio/pcm",
    "audio/pcmu": "audio/pcmu",
    "g711_ulaw": "audio/pcmu",
    "audio/pcma": "audio/pcma",
    "g711_alaw": "audio/pcma",
}
_OLDER = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_RATE = 24_000
_LOWEST_RATE, _HIGHEST_RATE = 8_000, 48_000
_DELAYS_S = {"minimal": 0.3, "low": 0.6, "medium": 1.0, "high": 2.0, "xhigh": 3.0}
"""How often text is renewed: a later one has more to go by."""
_EAGERNESS_S = {"low": 2.0, "medium": 1.2, "auto": 1.2, "high": 0.8}
"""The pause that ends an utterance, where OpenAI would ask a model whether it has ended."""
_SHORTEST_MS, _LONGEST_MS = 100, 5_000  # of the pause, in the contract
_MOST_PADDING_MS = 2_000  # likewise
_LARGE = 1e9  # no number of a session is
_MAX_LANGUAGES = 32
_MAX_KEYWORDS, _MAX_KEYWORD = 256, 200  # of the contract's hotwords
_MAX_PROMPT = 10_000  # characters, likewise
_MAX_WORD = 16  # characters of a word that is one of a few


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """When an utterance ends by itself."""

    kind: str = "server_vad"
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    eagerness: str = "auto"

    def shown(self) -> dict[str, Any]:
        """As clients read it."""
        if self.kind == "semantic_vad":
            return {"type": self.kind, "eagerness": self.eagerness}
        return {
            "type": self.kind,
            "threshold": self.threshold,
            "prefix_padding_ms": self.prefix_padding_ms,
            "silence_duration_ms": self.silence_duration_ms,
        }


@dataclass(frozen=True, slots=True)
class TranscriptionSession:
    """The options of one session."""

    model: str = ""
    language: str = ""
    languages: tuple[str, ...] = ()
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    delay: str = ""
    format: str = "audio/pcm"
    rate: int = _RATE
    turn_detection: TurnDetection | None = TurnDetection()
    """None: the client says where utterances end."""
    include: tuple[str, ...] = ()

    @property
    def tentative(self) -> bool:
        """Whether tentative text is wanted."""
        return TENTATIVE in self.include

    def config(self) -> asr_pb2.LiveConfig:
        """What the service is asked for. Raises RequestError."""
        tags = [tag_of(one, "languages") for one in self.languages]
        language = tag_of(self.language) if not tags else tags[0] if len(tags) == 1 else ""
        decoding = asr_pb2.DecodingOptions(initial_prompt=self.prompt, hotwords=self.keywords)
        config = asr_pb2.LiveConfig(
            audio=self._audio(),
            model=self.model,
            language=language,
            allowed_languages=tags if len(tags) > 1 else (),
            decoding=decoding if decoding.ListFields() else None,
            tentative=self.tentative,
        )
        if self.delay:
            config.update_interval.CopyFrom(duration(_DELAYS_S[self.delay]))
        turns = self.turn_detection
        if turns is None:
            config.endpoint.manual = True
        elif turns.kind == "semantic_vad":
            config.endpoint.silence.CopyFrom(duration(_EAGERNESS_S[turns.eagerness]))
        else:
            config.endpoint.silence.CopyFrom(duration(turns.silence_duration_ms / 1000))
            config.vad.padding.CopyFrom(duration(turns.prefix_padding_ms / 1000))
            config.vad.threshold = turns.threshold
        return config

    def _audio(self) -> asr_pb2.AudioFormat:
        if self.format == "audio/pcm":
            pcm = asr_pb2.PcmFormat(sample_rate_hz=self.rate, channels=1)
            return asr_pb2.AudioFormat(pcm=pcm)
        is_mu = self.format == "audio/pcmu"
        law = asr_pb2.G711_LAW_MU if is_mu else asr_pb2.G711_LAW_A
        return asr_pb2.AudioFormat(g711=asr_pb2.G711Format(law=law))

    def updated(self, given: Mapping[str, Any]) -> "TranscriptionSession":
        """With what a client has sent; what it left out stays. Raises RequestError.

        What no service here could do, such as noise reduction, is left out without a word: the
        session that is sent back has none of it.
        """
        if given.get("type", "transcription") != "transcription":
            raise bad_field("session.type", "only transcription sessions are served here")
        audio = object_of(given.get("audio"), "session.audio")
        asked = object_of(audio.get("input"), "session.audio.input")
        older = {
            name.removeprefix("input_audio_"): given[name]
            for name in ("input_audio_format", "input_audio_transcription", "turn_detection")
            if name in given
        }
        asked = {**older, **asked}
        found = self
        if asked.get("format") is not None:
            found = _with_format(found, asked["format"])
        if asked.get("transcription") is not None:
            found = _with_transcription(found, object_of(asked["transcription"], "transcription"))
        if "turn_detection" in asked:
            found = replace(found, turn_detection=self._turns(asked["turn_detection"]))
        if given.get("include") is not None:
            included = _texts(given["include"], "include", 16, 200)
            found = replace(found, include=tuple(one for one in included if one == TENTATIVE))
        found.config()
        return found

    def _turns(self, given: object) -> TurnDetection | None:
        if given is None:
            return None
        asked, before = object_of(given, "turn_detection"), self.turn_detection or TurnDetection()
        kind = _text(asked.get("type"), "turn_detection.type", _MAX_WORD) or before.kind
        if kind not in {"server_vad", "semantic_vad", "none"}:
            raise bad_field("turn_detection.type", "write server_vad or semantic_vad")
        if kind == "none":
            return None
        eagerness = _text(asked.get("eagerness"), "turn_detection.eagerness", _MAX_WORD)
        eagerness = eagerness or before.eagerness
        if eagerness not in _EAGERNESS_S:
            raise bad_field("turn_detection.eagerness", f"write one of {', '.join(_EAGERNESS_S)}")
        threshold = _number(asked, "threshold", before.threshold)
        if not 0 <= threshold <= 1:
            raise bad_field("turn_detection.threshold", "write a number from 0 to 1")
        padding_ms = _number(asked, "prefix_padding_ms", before.prefix_padding_ms)
        silence_ms = _number(asked, "silence_duration_ms", before.silence_duration_ms)
        return TurnDetection(
            kind=kind,
            threshold=threshold,
            prefix_padding_ms=int(min(max(padding_ms, 0), _MOST_PADDING_MS)),
            silence_duration_ms=int(min(max(silence_ms, _SHORTEST_MS), _LONGEST_MS)),
            eagerness=eagerness,
        )

    def shown(self, session_id: str) -> dict[str, Any]:
        """As clients of today read it."""
        format_ = {"type": self.format}
        rate = {"rate": self.rate} if self.format == "audio/pcm" else {}
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "audio": {
                "input": {
                    "format": {**format_, **rate},
                    "transcription": self._transcription(),
                    "noise_reduction": None,
                    "turn_detection": self.turn_detection and self.turn_detection.shown(),
                }
            },
            "include": list(self.include),
        }

    def shown_older(self, session_id: str) -> dict[str, Any]:
        """As clients of the beta read it."""
        return {
            "object": "realtime.transcription_session",
            "id": session_id,
            "modalities": ["text"],
            "input_audio_format": _OLDER[self.format],
            "input_audio_transcription": self._transcription(),
            "input_audio_noise_reduction": None,
            "turn_detection": self.turn_detection and self.turn_detection.shown(),
            "include": list(self.include),
        }

    def _transcription(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "model": self.model,
            "language": self.language or None,
            "prompt": self.prompt,
        }
        more: dict[str, Any] = {
            "languages": list(self.languages),
            "keywords": list(self.keywords),
            "delay": self.delay,
        }
        return found | {name: value for name, value in more.items() if value}


def _with_format(session: TranscriptionSession, given: object) -> TranscriptionSession:
    asked = {"type": given} if isinstance(given, str) else object_of(given, "format")
    kind = _FORMATS.get(str(asked.get("type", "audio/pcm")))
    if kind is None:
        raise bad_field("format", "write audio/pcm, audio/pcmu or audio/pcma")
    rate = _number(asked, "rate", _RATE)
    if kind == "audio/pcm" and not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise bad_field("format.rate", f"write a number from {_LOWEST_RATE} to {_HIGHEST_RATE}")
    return replace(session, format=kind, rate=int(rate))


def _with_transcription(
    session: TranscriptionSession, asked: Mapping[str, Any]
) -> TranscriptionSession:
    changed: dict[str, Any] = {}
    for name, longest in (("model", 200), ("language", 100), ("prompt", _MAX_PROMPT)):
        if name in asked:
            changed[name] = _text(asked[name], name, longest)
    for name, most, longest in (
        ("languages", _MAX_LANGUAGES, 100),
        ("keywords", _MAX_KEYWORDS, _MAX_KEYWORD),
    ):
        if name in asked:
            changed[name] = _texts(asked[name], name, most, longest)
    if changed.get("language"):
        changed.setdefault("languages", ())  # the last word about it counts
    if "delay" in asked:
        changed["delay"] = _text(asked["delay"], "delay", _MAX_WORD)
        if changed["delay"] and changed["delay"] not in _DELAYS_S:
            raise bad_field("delay", f"write one of {', '.join(_DELAYS_S)}")
    return replace(session, **changed)


def object_of(given: object, name: str) -> dict[str, Any]:
    """An object that was sent; empty for none. Raises RequestError."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise bad_field(name, "write an object")
    return cast("dict[str, Any]", given)


def _text(given: object, name: str, longest: int) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or len(given) > longest:
        raise bad_field(name, f"write a text of at most {longest} characters")
    return _whole(given, name)


def _texts(given: object, name: str, most: int, longest: int) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(cast("list[object]", given)) > most:
        raise bad_field(name, f"write a list of at most {most} texts")
    return tuple(_text(one, name, longest) for one in cast("list[object]", given) if one)


def _whole(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # of "\ud800" in JSON
        raise bad_field(name, "it holds half of a character") from None
    return text


def _number(asked: Mapping[str, Any], name: str, default: float) -> float:
    given = asked.get(name)
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) < _LARGE:
        raise bad_field(name, "write a number")
    return given
