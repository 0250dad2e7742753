"""Converts a Whisper model to MLX as the service would; see voxroute_serving.models.preparation."""

import sys

from voxroute_asr_mlx.engine import mlx_directory
from voxroute_serving.models import preparation

if __name__ == "__main__":
    sys.exit(
        preparation.run(
            lambda _, source, cache_dir, activity: mlx_directory(source, cache_dir, activity)
        )
    )
