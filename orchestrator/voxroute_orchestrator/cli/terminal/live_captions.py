"""Captions on a terminal: what is settled plain, what may change dim behind it, and rewritten."""

from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from voxroute.live.v1 import live_pb2
from voxroute_orchestrator.cli.terminal.captions import LineCaptions
from voxroute_orchestrator.cli.terminal.progress import LineReporter

__all__ = ["Console", "TerminalCaptions"]


class TerminalCaptions(LineCaptions):
    """The same as LineCaptions, and below it what is still spoken or translated."""

    rewrites = True

    def __init__(
        self, targets: tuple[str, ...], told: LineReporter, console: Console, *, quiet: bool
    ) -> None:
        super().__init__(targets, told)
        self._console = console
        self._quiet = quiet
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Writes a line above what changes."""
        if not self._quiet:
            self._print(Text(text, style="dim"))

    def warn(self, text: str) -> None:
        """Writes a line above what changes."""
        self._print(Text(f"warning: {text}", style="yellow"))

    def line(self, language: str, text: str) -> None:
        """Writes a line above what changes."""
        self._print(_translation(language, text) if language else Text(text))

    def take(self, event: live_pb2.CaptionResponse) -> None:
        """Shows a message of the stream."""
        super().take(event)
        self._live.update(self._changing(), refresh=True)

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _changing(self) -> Text:
        lines: list[Text] = []
        for _, said in sorted(self.said.items()):
            if not said.closed and (said.committed or said.tentative):
                tentative = said.tentative if said.committed else said.tentative.lstrip()
                lines.append(Text.assemble(said.committed, (tentative, "dim")))
            for language in self.targets:
                text = said.translation(language)
                if text and not said.has_told(language):
                    lines.append(_translation(language, text))
        return Text("\n").join(lines)


def _translation(language: str, text: str) -> Text:
    return Text.assemble((f"{language}: ", "dim"), (text, "cyan"))
