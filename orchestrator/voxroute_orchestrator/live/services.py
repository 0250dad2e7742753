"""The services of a stream of captions."""

import contextlib
import os
from collections.abc import AsyncGenerator, Callable

from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs, ObserveRoute, observe_nothing
from voxroute_orchestrator.reporter import Waits
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec

PATIENCE_S = 60.0
"""How long a translation service is tried again for a sentence, long enough for one that is started
again: a later sentence tries anew."""


@contextlib.asynccontextmanager
async def found(
    settings: Settings,
    spec: JobSpec,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    *,
    only_asr_endpoints: bool = False,
    only_translate_endpoints: bool = False,
    observe: ObserveRoute = observe_nothing,
    waits: Waits | None = None,
) -> AsyncGenerator[Connected]:
    """As `fleet.connect.services`, with speech services that transcribe while somebody speaks."""
    needs = Needs(
        spec,
        speech=True,
        translation=bool(spec.target_languages),
        only_asr_endpoints=only_asr_endpoints,
        only_translate_endpoints=only_translate_endpoints,
        live=True,
    )
    patient = settings.model_copy(update={"retry_s": min(settings.retry_s, PATIENCE_S)})
    async with services(
        patient, needs, os.environ, say, warn, observe=observe, waits=waits
    ) as connected:
        yield connected
