"""The HTML report: self-contained, complete, safe."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sheafalign_fl.errors import DataError
from sheafalign_fl.numbers import human_bytes
from sheafalign_fl.protocol.rows import AbsenceRow
from sheafalign_fl.report import page as pieces
from sheafalign_fl.report import write_report
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.page import Html
from sheafalign_fl.runs.reading import read_run
from tests.report.run_folders import settings, write_run

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def anchors(self) -> set[str]:
        return {attributes["id"] or "" for name, attributes in self.elements if name == "section"}


def report(*paths: Path, to: Path) -> Page:
    write_report(paths, to)
    content = to.read_text(encoding="utf-8")
    page = Page(content)
    assert_self_contained(content, page)
    return page


def assert_self_contained(content: str, page: Page) -> None:
    assert "script" not in {name for name, _ in page.elements}
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)
        for key in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            if (value := attributes.get(key)) is not None:
                assert value.startswith(("#", "data:image/png;base64,")), (name, key, value)
    assert "@import" not in content
    assert not re.search(r"url\((?!#)", content)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_a_whole_report(tmp_path: Path) -> None:
    absences = [
        AbsenceRow(exchange=8, client="radar", event="late", reason="no answer within 5 s"),
        AbsenceRow(exchange=9, client="radar", event="returned", reason="it answers again"),
    ]
    folder = write_run(tmp_path / "r", absences=absences)
    page = report(folder.path, to=folder.report)
    assert page.anchors == {
        "learning",
        "quality",
        "communication",
        "federation",
        "data",
        "facts",
        "reproduce",
    }
    summary = folder.load_summary()
    for wanted in (
        *(
            "completed",
            "seed 0",
            "flwr 1.41.0",
            summary.config_digest,
            str(summary.commit),
            "float32",
            "0.1 × reconstruction",
        ),
        *(
            "Retrieval",
            "Zero-shot transfer",
            "Linear probe",
            "When sensors fail",
            "Consistency",
            "Bytes by purpose",
        ),
        *(
            "no answer within 5 s",
            "In 1 of 40 exchanges",
            "the sensor missed 63 of 3000 events",
            "resumed 1 time",
        ),
        "add up to exactly the totals of the summary",
    ):
        assert wanted in page.text, wanted
    images = [attributes for name, attributes in page.elements if name == "img"]
    assert [image["alt"] for image in images] == ["camera", "lidar", "radar"]
    drawn = {
        str(a["aria-label"]) for name, a in page.elements if name == "svg" and a.get("aria-label")
    }
    assert len(drawn) == 7
    # The resolved configuration is there word for word, so that the run can be repeated from the
    # report alone.
    assert " ".join(folder.config.read_text(encoding="utf-8").split()) in page.text


def test_every_figure_is_explained(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    write_report([folder.path], folder.report)
    content = folder.report.read_text(encoding="utf-8")
    captions = re.findall(
        r'class="plot">.*?<figcaption>(.*?)</figcaption>', content, flags=re.DOTALL
    )
    assert len(captions) == content.count('class="plot"') == 7
    assert sum("Good:" in caption for caption in captions) >= 6


@pytest.mark.parametrize("done", [0, 5, 23])
def test_an_interrupted_run(tmp_path: Path, done: int) -> None:
    folder = write_run(tmp_path / "r", done=done)
    page = report(folder.path, to=folder.report)
    assert f"interrupted at exchange {done}" in page.text
    assert "stopped by the user" in page.text
    assert f"sheafalign run --resume {folder.path}" in page.text
    assert {"communication", "federation", "facts", "reproduce"} <= page.anchors
    assert ("Loss against exchanges" in page.text) == (done > 0)
    assert ("R@10 from each client" in page.text) == (done == 23)


def test_a_run_without_pictures_and_metrics(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", extras=False)
    bare = {"split": "test", "label": None}
    summary = folder.load_summary()
    folder.save_summary(
        summary.model_copy(update={"quality": type(summary.quality).model_validate(bare)})
    )
    assert "data" not in report(folder.path, to=folder.report).anchors


def test_text_from_data_is_escaped_everywhere(tmp_path: Path) -> None:
    # A client's name cannot hold ">" or "/", which leaves these.
    name = "<b onclick=alert(1) &amp; \"'"
    clients = [name, "<img src=x onerror=alert(2) ", "$c$"]
    chosen = settings(clients, data={"source": "scenes", "options": {"x": HOSTILE}})
    absence = AbsenceRow(exchange=1, client=name, event="failed", reason=HOSTILE)
    folder = write_run(tmp_path / "r", chosen, absences=[absence], notes=[HOSTILE])
    label = folder.load_summary().quality.model_copy(update={"label": HOSTILE})
    folder.save_summary(
        folder.load_summary().model_copy(update={"quality": label, "commit": HOSTILE})
    )
    page = report(folder.path, to=folder.report)
    assert HOSTILE in page.text
    assert name in page.text
    assert {"b", "img"} & {element for element, _ in page.elements} == {"img"}
    assert all(
        str(a["src"]).startswith("data:") for element, a in page.elements if element == "img"
    )
    assert not [a for _, a in page.elements if "onerror" in a or "onclick" in a]


@pytest.mark.slow
def test_a_hundred_clients_make_a_page_of_bearable_size(tmp_path: Path) -> None:
    chosen = settings(
        [f"sensor-{k}" for k in range(100)], training={"exchanges": 2, "batch_size": 64}
    )
    folder = write_run(tmp_path / "r", chosen, extras=False)
    page = report(folder.path, to=folder.report)
    assert "9,900 rows: the 4 worst and the 4 best are shown" in page.text
    assert folder.report.stat().st_size < 2_000_000


def test_a_ledger_that_does_not_add_up_is_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    lines = folder.ledger.read_text(encoding="utf-8").splitlines(keepends=True)
    folder.ledger.write_text("".join(lines[:-1]), encoding="utf-8")
    assert "DO NOT add up" in report(folder.path, to=folder.report).text


def test_several_runs_are_compared(tmp_path: Path) -> None:
    paths = []
    for name, graph, seeds, lift in (("sheaf", "complete", 3, 1.0), ("single", "star", 2, 0.5)):
        for seed in range(seeds):
            chosen = settings(name=name, seed=seed, graph={"topology": graph, "dim": 32})
            paths.append(write_run(tmp_path / f"{name}-{seed}", chosen, lift=lift).path)
    paths.append(
        write_run(
            tmp_path / "unfinished", settings(name="single", seed=9, codec="float16"), done=12
        ).path
    )
    page = report(*paths, to=tmp_path / "comparison.html")
    assert page.anchors == {"results", "learning", "failing", "settings", "runs"}
    assert "6 runs of 3 methods" in page.text
    assert "no claim can rest on it: sheaf, single, single (2)" in page.text
    assert "Interrupted, so without test results" in page.text
    assert "graph.topology" in page.text
    assert "not reached" in page.text
    assert " ± " in page.text
    finals = [read_run(path).summary for path in paths[:3]]
    recalls = [
        100 * sum(row.recall_at_1 for row in final.quality.retrieval) / len(final.quality.retrieval)
        for final in finals
        if final is not None
    ]
    assert f"{sum(recalls) / 3:.1f} ± " in page.text
    assert "Retrieval among 600 events; seeds 0, 1, 2" in page.text
    assert "events of an edge, at least: 2,000 train, 300 validation, 600 test." in page.text
    sent = [row for final in finals if final is not None for row in final.bytes]
    for purpose in ("train", "evaluate"):
        for kind in ("payload_bytes", "message_bytes", "relay_bytes"):
            total = sum(getattr(row, kind) for row in sent if row.purpose == purpose)
            assert human_bytes(round(total / 3)) in page.text


def test_a_star_that_all_pairs_are_measured_of_has_a_row_for_its_own_edges(tmp_path: Path) -> None:
    star = settings(name="star", graph={"topology": "star", "dim": 32})
    folder = write_run(tmp_path / "star", star)
    final = folder.load_summary()
    own = final.quality.retrieval
    pair = {"source": "lidar", "target": "radar", "recall_at_1": 0.0}
    further = (own[0].model_copy(update=pair),)
    changed = final.quality.model_copy(update={"retrieval": (*own, *further)})
    folder.summary.write_text(
        final.model_copy(update={"quality": changed}).model_dump_json(), encoding="utf-8"
    )
    other = write_run(tmp_path / "other", settings(name="other")).path
    page = report(folder.path, other, to=tmp_path / "c.html")
    assert page.text.count("own edges") >= 1
    assert "other, own edges" not in page.text
    position = page.text.index("star, own edges")
    mean_own = 100 * sum(row.recall_at_1 for row in own) / len(own)
    assert f"{mean_own:.1f}" in page.text[position : position + 60]


def test_engines_and_names_are_no_methods(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", settings(name="a", engine="flower")).path
    two = write_run(tmp_path / "b", settings(name="b", engine="inprocess", seed=1)).path
    page = report(one, two, to=tmp_path / "c.html")
    assert "2 runs of 1 method." in page.text
    assert "Nothing but seed" in page.text


def test_bad_calls_are_one_clear_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    for paths, message in (
        ([], "at least one"),
        ([folder.path, folder.path / "."], "twice"),
        ([tmp_path], "no run folder"),
        ([folder.path, tmp_path / "nowhere"], "no run folder"),
    ):
        with pytest.raises(DataError, match=message):
            write_report(paths, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        write_report([folder.path], blocked / "report.html")
    folder.report.write_text("old", encoding="utf-8")
    folder.summary.write_text("{", encoding="utf-8")
    with pytest.raises(DataError):
        write_report([folder.path], folder.report)
    assert folder.report.read_text(encoding="utf-8") == "old"
    assert [path.name for path in folder.path.glob(".report*")] == []


HOSTILE_TABLE = Table(
    HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, f"1\n{HOSTILE}"),), ((HOSTILE, HOSTILE),), note=HOSTILE
)
PIECES: dict[str, tuple[Callable[[], str | None], int]] = {
    "code": (lambda: pieces.code(HOSTILE), 1),
    "source": (lambda: pieces.source(HOSTILE), 1),
    "named": (lambda: pieces.named(HOSTILE, HOSTILE), 2),
    "verdict": (lambda: pieces.verdict(HOSTILE, HOSTILE), 1),
    "badge": (lambda: pieces.badge(HOSTILE, HOSTILE), 1),
    "paragraph": (lambda: pieces.paragraph("a", HOSTILE, kind=HOSTILE), 1),
    "section": (lambda: pieces.section(HOSTILE, HOSTILE, Html("x")), 1),
    "figure": (lambda: pieces.figure("<svg ></svg>", HOSTILE, HOSTILE), 2),
    "samples": (lambda: pieces.samples({HOSTILE: b"png"}), 1),
    "table": (lambda: pieces.table(HOSTILE_TABLE, HOSTILE), 9),
    "details": (lambda: pieces.details(HOSTILE, Html("x")), 1),
    "listing": (lambda: pieces.listing([HOSTILE]), 1),
    "facts": (lambda: pieces.facts([(HOSTILE, HOSTILE)]), 2),
    "cards": (lambda: pieces.cards([(HOSTILE, HOSTILE, HOSTILE)]), 3),
    "header": (lambda: pieces.header(HOSTILE, HOSTILE, HOSTILE, []), 3),
    "page": (lambda: pieces.page(HOSTILE, Html("x"), [(HOSTILE, HOSTILE, Html("x"))]), 2),
}
"""Piece -> what makes it of hostile text alone, and how often that text is to be read in it."""


@pytest.mark.parametrize("name", PIECES)
def test_every_piece_escapes_what_is_not_html(name: str) -> None:
    made, times = PIECES[name]
    content = str(made())
    page = Page(content)
    assert "".join(page.words).count(HOSTILE) == times
    allowed = {"class", "id", "alt", "aria-label", "href", "src", "lang", "charset", "name"}
    for element, attributes in page.elements:
        assert element != "script"
        assert set(attributes) <= allowed | {"content", "http-equiv", "colspan"}, element
        if element == "img":
            assert str(attributes["src"]).startswith("data:image/png;base64,")


def test_a_piece_is_not_escaped_twice() -> None:
    inner = pieces.code("a & b")
    assert inner == "<code>a &amp; b</code>"
    assert inner in pieces.paragraph(inner, "<")
    assert inner in pieces.facts([("digest", inner)])
