"""Names of files: made of titles so that the file system takes them, and shown to people.

A title may have anything that a file's name may: 255 bytes, line feeds, bytes that are no UTF-8.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

MAX_BYTES = 255
"""Of one name, in the file systems that people have."""

_DIGITS = 8  # of what stands for the rest of a title that was cut
_JOINER = "\N{ZERO WIDTH JOINER}"
_UNFIT = {"Cc", "Cs", "Zl", "Zp"}  # controls, bytes that are no UTF-8, ends of lines
_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # would turn what follows


def fitted(title: str, ending: str, *, beginning: str = "", most_bytes: int = MAX_BYTES) -> str:
    """Beginning, title and ending as one name, of a title that is shortened where need be.

    What stands for the rest then is made of the whole title: no two titles have the same names,
    and one title has the same ones always.
    """
    if len(os.fsencode(beginning + title + ending)) <= most_bytes:
        return beginning + title + ending
    rest = f"~{hashlib.sha256(os.fsencode(title)).hexdigest()[:_DIGITS]}"
    room = most_bytes - len(os.fsencode(beginning + rest + ending))
    return f"{beginning}{_cut(title, room)}{rest}{ending}"


def _cut(title: str, room: int) -> str:
    """As many whole characters, with all that belongs to them, as fit into so many bytes."""
    end = size = 0
    for character in title:
        size += len(os.fsencode(character))
        if size > room:
            break
        end += 1
    while 0 < end < len(title) and _go_on(title[end - 1], title[end]):
        end -= 1
    return title[:end]


def _go_on(before: str, after: str) -> bool:
    """Whether the second character belongs to the first: a mark, or joined emoji."""
    return _JOINER in (before, after) or unicodedata.category(after).startswith("M")


def shown(name: str | Path) -> str:
    """The name as a person can read it in one line, and as JSON and gRPC take it."""
    return "".join(
        character if _is_fit(character) else _escaped(character) for character in str(name)
    )


def _is_fit(character: str) -> bool:
    return unicodedata.category(character) not in _UNFIT and character not in _BIDI


def _escaped(character: str) -> str:
    r"""As Python writes it: \n, \x1b, and \xff for a byte that is no UTF-8."""
    if "\udc80" <= character <= "\udcff":  # os.fsdecode's
        return os.fsencode(character).decode("ascii", "backslashreplace")
    return character.encode("unicode_escape").decode()


def sent(name: str) -> str:
    """The name as a job service takes it: one line without folders, that begins with no dot."""
    text = "".join(
        character if _is_fit(character) and character not in "/\\" else "_" for character in name
    )
    return f"_{text[1:]}" if text.startswith(".") else text


def alike(name: str) -> str:
    """The same for names that are one to some file system: of other case, or composed otherwise."""
    return unicodedata.normalize("NFC", name.casefold())


def told_apart(paths: Iterable[Path]) -> list[str]:
    """A name for each file that no other has: its title, or its path where others have that."""
    paths = list(paths)
    titles = [shown(path.stem) for path in paths]
    times = Counter(titles)
    names = [
        title if times[title] == 1 else shown(path)
        for title, path in zip(titles, paths, strict=True)
    ]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number = 1
        while names[index] in taken:
            number += 1
            names[index] = f"{name} ({number})"
        taken.add(names[index])
    return names


# those of pathlib (3.11) raise for a name that is longer than any may be
is_folder, is_file, exists = os.path.isdir, os.path.isfile, os.path.exists


def is_path(model: str) -> bool:
    """Whether the name of a model is one of a file or a folder of this host.

    A service that is started here would take one in the folder that this process was started in.
    """
    outside = model.startswith(("/", ".", "~")) or "\\" in model or ".." in model.split("/")
    return outside or (bool(model) and (not model.isprintable() or exists(model)))
