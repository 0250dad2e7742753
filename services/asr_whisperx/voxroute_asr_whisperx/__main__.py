"""The WhisperX speech service: python -m voxroute_asr_whisperx --help."""

from typing import NoReturn

from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.process.app import App
from voxroute_serving.process.main import Runtime, run_service


def _build(settings: WhisperXSettings, runtime: Runtime) -> App:
    engine = WhisperXEngine(settings)
    return AsrApp(engine, settings, runtime, engine.diarizer())


def main() -> NoReturn:
    """Runs the service until SIGTERM, and ends the process."""
    run_service(WhisperXSettings, _build, distribution="voxroute-asr-whisperx")


if __name__ == "__main__":
    main()
