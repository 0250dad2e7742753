"""The voxroute command: media in, transcript and translated subtitles out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("voxroute-orchestrator")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
