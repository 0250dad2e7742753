"""`python -m voxroute_translate`: the translation service."""

from typing import NoReturn

from voxroute_serving.process.main import run_service
from voxroute_translate.servicer import TranslateApp
from voxroute_translate.settings import TranslateSettings


def main() -> NoReturn:
    """Runs the service until SIGTERM, and ends the process."""
    run_service(TranslateSettings, TranslateApp, distribution="voxroute-translate")


if __name__ == "__main__":
    main()
