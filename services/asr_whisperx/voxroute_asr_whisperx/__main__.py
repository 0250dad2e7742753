"""The WhisperX speech service: python -m voxroute_asr_whisperx --help."""

import os
from typing import NoReturn

# Before numpy is imported: for the small products of log-mel features OpenBLAS would keep a thread
# spinning on each processor, which takes 70 CPU seconds for an hour of film on 16 of them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.app import App
from voxroute_serving.asr import asr_app
from voxroute_serving.main import Runtime, run_service


def _build(settings: WhisperXSettings, runtime: Runtime) -> App:
    engine = WhisperXEngine(settings)
    return asr_app(engine, settings, runtime, engine.diarizer())


def main() -> NoReturn:
    """Runs the service until SIGTERM, and ends the process."""
    run_service(WhisperXSettings, _build, distribution="voxroute-asr-whisperx")


if __name__ == "__main__":
    main()
