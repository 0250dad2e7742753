"""The MLX speech service: python -m voxroute_asr_mlx --help."""

import sys

from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.app import App
from voxroute_serving.asr import asr_app
from voxroute_serving.main import Runtime, run_service


def _build(settings: MlxSettings, runtime: Runtime) -> App:
    return asr_app(MlxWhisperEngine(settings), settings, runtime)


def main() -> int:
    """Runs the service until SIGTERM; the exit code."""
    return run_service(MlxSettings, _build, distribution="voxroute-asr-mlx")


if __name__ == "__main__":
    sys.exit(main())
