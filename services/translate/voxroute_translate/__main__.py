"""`python -m voxroute_translate`: the translation service."""

import sys

from voxroute_serving.main import run_service
from voxroute_translate.servicer import build_app
from voxroute_translate.settings import TranslateSettings


def main() -> int:
    """Serves until SIGTERM; returns the exit code."""
    return run_service(TranslateSettings, build_app, distribution="voxroute-translate")


if __name__ == "__main__":
    sys.exit(main())
