"""Where a cue stands on the picture, in the words of WebVTT, which says most about it.

A placement is a list of WebVTT cue settings, "line:0 align:left" say; "" is below, in the middle.
Other formats know one of nine places, numbered as on a keypad (7 8 9 above, 1 2 3 below), or a
point in percent of the picture.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

BELOW = ""
_PERCENT = r"(?:100(?:\.0+)?|\d{1,2}(?:\.\d{1,6})?)%"
_VALID: Mapping[str, re.Pattern[str]] = {
    "vertical": re.compile(r"rl|lr"),
    "line": re.compile(rf"(?:-?\d{{1,4}}|{_PERCENT})(?:,(?:start|center|end))?"),
    "position": re.compile(rf"{_PERCENT}(?:,(?:line-left|center|line-right))?"),
    "size": re.compile(_PERCENT),
    "align": re.compile(r"start|center|end|left|right"),
}
_DEFAULTS = {"line": "-1", "position": "50%", "size": "100%", "align": "center"}
_LINE_PERCENT = 100 / 15  # a line's share of the picture's height, with what stands between lines
_EDGES_X, _EDGES_Y = (3.125, 50.0, 96.875), (95.0, 50.0, 5.0)
"""Where text stands, percent of the picture, with the margins of `to_ass`: by column and row."""
_NARROW, _FLAT = 15, 10  # percent of the picture, in which no text has room
_MIDDLE = 0.5  # percent from the middle within which a TTML region is in it
_ROUNDING = 0.01  # percent
_EDGE = 12  # percent from an edge within which a TTML region stands at that edge
_THIRD = 100 / 3


def canonical(settings: str) -> str:
    """The settings that are valid, each once, in one order and without those that say nothing."""
    found: dict[str, str] = {}
    for setting in settings.split():
        name, _, value = setting.partition(":")
        value = "center" if (name, value) == ("align", "middle") else value  # of older drafts
        if name in _VALID and _VALID[name].fullmatch(value):
            found[name] = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):g}", value)
    if "line" in found:
        found["line"] = found["line"].removesuffix(",start")
        if found["line"] == "0%":
            found["line"] = "0"
    defaults = dict(_DEFAULTS)
    if found.get("align", "center") != "center":
        del defaults["position"]  # it is then that edge
    elif "position" in found:
        found["position"] = found["position"].removesuffix(",center")
    return " ".join(
        f"{name}:{found[name]}"
        for name in _VALID
        if name in found and found[name] != defaults.get(name)
    )


@dataclass(frozen=True, slots=True)
class Anchor:
    """The point that a text hangs on: the place of its own box on a keypad that lies on the point.

    `x` and `y` are percent of the picture; None where only the keypad tells.
    """

    keypad: int
    x: float | None = None
    y: float | None = None


def _parts(settings: str) -> dict[str, str]:
    return dict(setting.split(":", 1) for setting in settings.split())


def anchor(settings: str) -> Anchor:
    """The point that the settings tell. Vertical writing has none."""
    parts = _parts(settings)
    if "vertical" in parts:
        return Anchor(2)
    row, y = _row(parts.get("line", ""))
    align = parts.get("align", "center")
    column = {"start": 0, "left": 0, "center": 1}.get(align, 2)
    x = None
    if "position" in parts:
        at, _, side = parts["position"].partition(",")
        x = float(at[:-1])
        column = {"line-left": 0, "center": 1, "line-right": 2}.get(side, column)
    return Anchor(1 + 3 * row + column, x, y)


def _row(line: str) -> tuple[int, float | None]:
    """The row on the keypad, 0 below, and the height in percent where the line tells one."""
    if not line:
        return 0, None
    at, _, side = line.partition(",")
    if not at.endswith("%"):
        number = int(at)
        if number == 0:
            return 2, None
        y = number * _LINE_PERCENT if number > 0 else 100 + (number + 1) * _LINE_PERCENT
        return (2 if number > 0 else 0), min(max(round(y, 2), 0.0), 100.0)
    y = float(at[:-1])
    if side == "center" and y == 50:  # noqa: PLR2004 - the middle
        return 1, None
    return {"center": 1, "end": 0}.get(side, 2), y


def keypad(settings: str) -> int:
    """The one of nine places that the settings are nearest to."""
    told = anchor(settings)
    row, column = divmod(told.keypad - 1, 3)
    if told.y is not None:
        row = 2 - min(int(told.y / _THIRD), 2)
    if told.x is not None:
        column = min(int(told.x / _THIRD), 2)
    return 1 + 3 * row + column


def of_keypad(place: int) -> str:
    """The settings of one of the nine places."""
    row, column = divmod(place - 1, 3)
    line = ("", "line:50%,center", "line:0")[row]
    align = ("align:left", "", "align:right")[column]
    return f"{line} {align}".strip()


def of_point(place: int, x: float, y: float) -> str:
    """The settings of a text that hangs on a point, percent of the picture."""
    if not (0 <= x <= 100 and 0 <= y <= 100):  # noqa: PLR2004 - percent
        return of_keypad(place)
    row, column = divmod(place - 1, 3)
    if (x, 2 * min(x, 100 - x), 100 - x)[2 - column] < _NARROW:
        place = 1 + 3 * row + min(int(x / _THIRD), 2)
        return of_point(place, _EDGES_X[(place - 1) % 3], y)
    if (y, 100.0, 100 - y)[row] < _FLAT:  # off the picture
        return of_point(3 * (2 - row) + 1 + column, x, _EDGES_Y[2 - row])
    line = f"line:{round(y, 2):g}%" + (",end", ",center", "")[row]
    if abs(y - _EDGES_Y[row]) < _ROUNDING:
        line = ("", "line:50%,center", "line:0")[row]
    position = f"position:{round(x, 2):g}%"
    if abs(x - _EDGES_X[column]) < _ROUNDING:
        position = ""
    align = ("align:left", "", "align:right")[column]
    return canonical(f"{line} {position} {align}")


def point(settings: str) -> tuple[int, float, float] | None:
    """The keypad and the point of a text, percent; None where one of the nine places tells all."""
    told = anchor(settings)
    if told.x is None and told.y is None:
        return None
    row, column = divmod(told.keypad - 1, 3)
    x = told.x if told.x is not None else _EDGES_X[column]
    y = told.y if told.y is not None else _EDGES_Y[row]
    return told.keypad, x, y


@dataclass(frozen=True, slots=True)
class Box:
    """A region of TTML: its corner and size in percent, and where in it the text stands."""

    x: float
    y: float
    width: float
    height: float
    display_align: str
    text_align: str


def box(settings: str) -> Box:
    """The region that holds a text with the settings."""
    told = anchor(settings)
    row, column = divmod(told.keypad - 1, 3)
    y, height = ((80.0, 15.0), (30.0, 40.0), (5.0, 15.0))[row]
    x, width = 10.0, 80.0
    if told.y is not None:
        half = min(told.y, 100 - told.y)
        y, height = ((0.0, told.y), (told.y - half, 2 * half), (told.y, 100 - told.y))[row]
    if told.x is not None:
        half = min(told.x, 100 - told.x)
        x, width = ((told.x, 100 - told.x), (told.x - half, 2 * half), (0.0, told.x))[column]
    size = _parts(settings).get("size")
    if size is not None:
        wanted = min(float(size[:-1]), width)
        x += (0, (width - wanted) / 2, width - wanted)[column]
        width = wanted
    return Box(
        x, y, width, height, ("after", "center", "before")[row], ("left", "center", "right")[column]
    )


def of_box(region: Box) -> str:
    """The settings of a text in a region: the edge of it that the text stands at.

    An alignment that is not told ("") is that of the place: most files leave it to the player.
    """
    rows = {"after": 0, "center": 1, "before": 2}
    below = region.y + region.height / 2 >= 50  # noqa: PLR2004 - the middle
    row = rows.get(region.display_align, 0 if below else 2)
    columns = {"left": 0, "start": 0, "right": 2, "end": 2}
    column = columns.get(region.text_align, 1)
    y = (region.y + region.height, region.y + region.height / 2, region.y)[row]
    x = (region.x, region.x + region.width / 2, region.x + region.width)[column]
    line = f"line:{min(max(round(y, 2), 0), 100):g}%" + (",end", ",center", "")[row]
    if (y >= 100 - _EDGE, abs(y - 50) < _MIDDLE, y <= _EDGE)[row]:
        line = ("", "line:50%,center", "line:0")[row]
    position = f"position:{min(max(round(x, 2), 0), 100):g}%"
    if (x <= _EDGE, abs(x - 50) < _MIDDLE, x >= 100 - _EDGE)[column]:
        position = ""
    return canonical(f"{line} {position} {('align:left', '', 'align:right')[column]}")
