"""Texts with HTML in them: what is between the tags is translated, the tags stay."""

import html
import re

_TAG = re.compile(r"(<!--.*?-->|<[a-zA-Z/!][^>]*>)", re.DOTALL)
_BLANKS = re.compile(r"\A(\s*)(.*?)(\s*)\Z", re.DOTALL)


class Html:
    """One text."""

    def __init__(self, text: str) -> None:
        self._parts = _TAG.split(text)  # text and tags by turns, a text first
        self._spoken = [n for n in range(0, len(self._parts), 2) if self._parts[n].strip()]

    @property
    def texts(self) -> list[str]:
        """What is to be translated, without entities and blanks around it."""
        return [html.unescape(self._parts[n]).strip() for n in self._spoken]

    def with_texts(self, texts: list[str]) -> str:
        """The same with other texts, as many as there are."""
        parts = list(self._parts)
        for n, text in zip(self._spoken, texts, strict=True):
            before, _, after = _BLANKS.fullmatch(parts[n]).groups()  # pyright: ignore[reportOptionalMemberAccess] - it fits any text
            parts[n] = f"{before}{html.escape(text, quote=False)}{after}"
        return "".join(parts)
