"""The toy's speech service: python -m voxroute_asr_toy --help."""

from typing import NoReturn

from voxroute_asr_toy.engine import ToyEngine
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.process.app import App
from voxroute_serving.process.main import Runtime, run_service
from voxroute_serving.process.settings import AsrSettings


def _build(settings: AsrSettings, runtime: Runtime) -> App:
    return AsrApp(ToyEngine(settings), settings, runtime)


def main() -> NoReturn:
    """Runs the service until SIGTERM, and ends the process."""
    run_service(AsrSettings, _build, distribution="voxroute-asr-toy")


if __name__ == "__main__":
    main()
