"""The dashboards: generated, complete, and about metrics that exist."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import dashboards
from scripts import metrics_page

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(dashboards.FOLDER.glob("*.json"))
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"))


def panels(path: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard without its rows' titles."""
    made = json.loads(path.read_text(encoding="utf-8"))
    return [panel for panel in made["panels"] if panel["type"] != "row"]


def expressions(path: Path) -> list[str]:
    """Every expression of a dashboard."""
    return [target["expr"] for panel in panels(path) for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    """All recording and alert rules."""
    loaded = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for file in loaded for group in file["groups"] for rule in group["rules"]]


def known_names() -> set[str]:
    """The names that a query may use: exposed series, recorded ones, Prometheus's own."""
    names = {"up", "ALERTS", "process_start_time_seconds", "process_resident_memory_bytes"}
    names |= {rule["record"] for rule in rules() if "record" in rule}
    for registry in metrics_page.registries().values():
        for metric in metrics_page.families(registry):
            name = metrics_page.exposed_name(metric)
            suffixes = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
            names |= {name + suffix for suffix in suffixes}
    return names


def used_names(expr: str) -> set[str]:
    """The names of metrics in an expression; labels stand in braces or parentheses of `by`."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)|\"[^\"]*\"", " ", expr)
    words = set(re.findall(r"[a-zA-Z_][\w:]*", bare))
    return {w for w in words if re.match(r"voxroute|grpc_|process_|instance:|up$|ALERTS$", w)}


def test_the_committed_dashboards_are_those_of_the_program() -> None:
    """A change of dashboards.py fails here until it has run; no other file lies beside."""
    made = dict(dashboards.files())
    assert sorted(made) == FILES
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"run {dashboards.__file__}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_loads_again_and_fills_its_grid(path: Path) -> None:
    """The schema reads its own JSON; panels neither overlap nor leave the 24 columns."""
    made = json.loads(path.read_text(encoding="utf-8"))
    assert Dashboard.from_json(made).title == made["title"]
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        grid = panel["gridPos"]
        x, y = grid.get("x", 0), grid.get("y", 0)
        cells = {(x + i, y + j) for i in range(grid["w"]) for j in range(grid["h"])}
        assert x + grid["w"] <= dashboards.WIDTH, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_metrics_that_exist(path: Path) -> None:
    """Every name is exposed by a service or recorded by a rule; every panel has a unit."""
    known = known_names()
    for expr in expressions(path):
        assert used_names(expr), expr
        assert used_names(expr) <= known, expr
    for panel in panels(path):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_rules_ask_for_metrics_that_exist() -> None:
    """A renamed metric would silence an alert for ever."""
    known = known_names()
    for rule in rules():
        assert used_names(rule["expr"]), rule
        assert used_names(rule["expr"]) <= known, rule


def test_every_recorded_series_is_used() -> None:
    """What nobody asks for is not worth its storage."""
    asked = {name for path in FILES for expr in expressions(path) for name in used_names(expr)}
    asked |= {name for rule in rules() for name in used_names(rule["expr"])}
    assert {rule["record"] for rule in rules() if "record" in rule} <= asked


def test_every_alert_says_what_to_do_and_has_a_test() -> None:
    """A summary, a description, a severity, and a test that sees it silent and firing."""
    text = (ROOT / "deploy" / "prometheus" / "tests" / "alerts.yaml").read_text(encoding="utf-8")
    tested = {test["name"]: test for test in yaml.safe_load(text)["tests"]}
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert set(rule["annotations"]) == {"summary", "description"}
            quiet, firing = tested[rule["alert"]]["alert_rule_test"]
            assert "exp_alerts" not in quiet
            assert firing["exp_alerts"]
