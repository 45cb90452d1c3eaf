"""Documents agree with the code: tables that repeat something are compared with what they repeat."""

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from chat import metrics, settings
from chat.errors import Code
from web.closing import close_code
from web.problems import status_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/**/*.md")])
CLOSE_CODES = {"", "1000", "1001", "1002", "1007", "1009", "1011", "4001", "4003", "4008", "4029", "4503"}


def between(page: str, name: str) -> str:
    """What stands between `<!-- name: begin ... -->` and `<!-- name: end -->`."""
    text = (ROOT / page).read_text()
    found = re.search(rf"<!-- {name}: begin[^>]*-->\n(.*?)\n<!-- {name}: end -->", text, re.DOTALL)
    assert found, f"{page} has no block `{name}`"
    return found[1]


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_every_code_has_one_row_in_the_protocol() -> None:
    documented = [row[0].strip("`") for row in rows(between("docs/protocol.md", "codes"))]
    assert documented == [code.value for code in Code]


def test_a_codes_row_says_when_how_and_what_to_do() -> None:
    for code, when, arrives, close, status, what_to_do in rows(between("docs/protocol.md", "codes")):
        assert when, code
        assert what_to_do or code == "`not_found`", code
        assert arrives in ("fatal", "soft or fatal", ""), code
        assert close in CLOSE_CODES, code
        assert status == "" or 400 <= int(status) <= 599, code


def test_a_codes_row_has_the_close_code_and_the_status_that_the_gateway_uses() -> None:
    for code, _, arrives, close, status, _ in rows(between("docs/protocol.md", "codes")):
        if arrives:
            assert int(close) == close_code(Code(code.strip("`"))), code
        if status:
            assert int(status) == status_of(Code(code.strip("`"))), code


def test_every_setting_stands_in_operations_as_the_code_documents_it() -> None:
    assert between("docs/operations.md", "settings") == settings.document(), (
        "docs/operations.md: put the output of chat.settings.document() between the markers"
    )


def test_every_metric_stands_in_operations() -> None:
    documented = {row[0].strip("`") for row in rows(between("docs/operations.md", "metrics"))}
    declared = {
        next(iter(metric.describe())).name for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)
    }
    assert documented == declared


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:|#", target):
            continue
        path = (page.parent / target.partition("#")[0]).resolve()
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9.*]+\.(?:py|cql|ts|json|md|cfg))(?:::[A-Za-z_.]+)?`", text):
        assert list(ROOT.glob(name)), f"docs/architecture.md names {name}"


def test_functions_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for name, symbol in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)::([A-Za-z_.]+)`", text):
        source = (ROOT / name).read_text()
        for part in symbol.split("."):
            assert re.search(rf"(?:def|class) {part}\b|^\s*{part}\b.*=", source, re.MULTILINE), f"{name}::{symbol}"


def test_every_decision_stands_in_the_index() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    for page in (ROOT / "docs/decisions").glob("0*.md"):
        assert f"({page.name})" in index, f"docs/decisions/README.md does not list {page.name}"


def test_the_korean_readme_says_the_same() -> None:
    english, korean = ((ROOT / name).read_text() for name in ("README.md", "README.ko.md"))
    for pattern in (r"^#+ ", r"```", r"^\| \[", r"^- \*\*", r"x-client-id", r"x-after-seq"):
        found = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, korean)]
        assert found[0] == found[1], f"{pattern}: {found}"
    commands = [re.findall(r"^make \w+", text, re.MULTILINE) for text in (english, korean)]
    assert commands[0] == commands[1]
