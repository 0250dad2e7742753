"""The MLX speech service: python -m voxroute_asr_mlx --help."""

from typing import NoReturn

from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.process.app import App
from voxroute_serving.process.main import Runtime, run_service


def _build(settings: MlxSettings, runtime: Runtime) -> App:
    return AsrApp(MlxWhisperEngine(settings), settings, runtime)


def main() -> NoReturn:
    """Runs the service until SIGTERM, and ends the process."""
    run_service(MlxSettings, _build, distribution="voxroute-asr-mlx")


if __name__ == "__main__":
    main()
