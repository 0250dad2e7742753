"""Which service aligns or diarizes where the one that transcribes cannot: pure functions."""

from collections.abc import Awaitable, Callable, Sequence

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.fleet.routing import Offer
from voxroute_orchestrator.transcript import is_among

FindAligner = Callable[[str], Awaitable[AsrClient | None]]
"""What finds the service that gives words in a language their times; None where none can."""

FindDiarizer = Callable[[], Awaitable[AsrClient | None]]
"""What finds the service that tells speakers apart; None where none can."""

ALIGNMENT = "alignment"
DIARIZATION = "diarization"


def aligner_for(offers: Sequence[Offer], language: str, transcribing: str = "") -> Offer | None:
    """The service that is to give a transcript of a language its words; None where none can.

    `transcribing` is the address of the service that made the transcript: it is taken where it can
    align, because the recording's work is there already. Else a service with a free place, then
    the least busy one, then the first in the configuration.
    """
    able = [one for one in offers if is_among(language, one.alignable_languages)]
    return _best(able, transcribing, ALIGNMENT)


def diarizer_for(offers: Sequence[Offer], transcribing: str = "") -> Offer | None:
    """The service that is to tell the speakers apart, chosen as `aligner_for`; None for none."""
    return _best(offers, transcribing, DIARIZATION)


def _best(offers: Sequence[Offer], transcribing: str, feature: str) -> Offer | None:
    able = [one for one in offers if one.error is None and feature in (one.features or ())]
    return min(able, key=lambda offer: _rank(offer, transcribing), default=None)


def _rank(offer: Offer, transcribing: str) -> tuple[bool, bool, float]:
    full = offer.calls_capacity > 0 and offer.calls_in_flight >= offer.calls_capacity
    load = (offer.calls_in_flight + offer.work_queued) / max(1, offer.calls_capacity)
    return offer.target != transcribing, full, load
