"""Which service aligns or diarizes, from what the configured ones say of themselves."""

from dataclasses import replace

from voxroute_orchestrator.fleet.routing import Offer
from voxroute_orchestrator.fleet.second_services import aligner_for, diarizer_for

MLX = Offer("mlx:1", engine="mlx-whisper", features=frozenset({"word_timestamps"}))
BOTH = Offer(
    "whisperx:1",
    engine="whisperx",
    features=frozenset({"alignment", "diarization"}),
    alignable_languages=("hi", "pt"),
    calls_in_flight=1,
    calls_capacity=4,
)
IDLE = replace(BOTH, target="whisperx:2", calls_in_flight=0)


def test_another_service_does_what_the_transcribing_one_cannot() -> None:
    """The MLX transcript goes to the WhisperX service; regions of a language do not matter."""
    assert aligner_for([MLX, BOTH], "hi", "mlx:1") is BOTH
    assert aligner_for([MLX, BOTH], "pt-BR", "mlx:1") is BOTH
    assert diarizer_for([MLX, BOTH], "mlx:1") is BOTH


def test_a_service_that_can_do_it_itself_is_kept() -> None:
    """It is taken before a less busy one."""
    assert aligner_for([IDLE, BOTH], "hi", "whisperx:1") is BOTH
    assert diarizer_for([IDLE, BOTH], "whisperx:1") is BOTH


def test_the_least_busy_service_is_taken_and_a_full_one_last() -> None:
    """As for transcription."""
    full = replace(BOTH, target="whisperx:3", calls_in_flight=4)
    assert diarizer_for([full, BOTH, IDLE]) is IDLE
    assert diarizer_for([full]) is full


def test_none_is_taken_that_cannot_or_does_not_answer() -> None:
    """No service is no error: the caller says what is missing."""
    down = replace(BOTH, error="it is draining")
    silent = Offer("old:1", features=None)
    assert aligner_for([down, silent, MLX, BOTH], "ta") is None
    assert diarizer_for([down, silent, MLX]) is None
