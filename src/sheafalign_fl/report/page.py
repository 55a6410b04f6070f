"""The pieces of an HTML page. All text is escaped here; what is `Html` already has been."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from sheafalign_fl.report.content import GAP, Table
from sheafalign_fl.version import __version__


class Html(str):
    """Text that is HTML: safe to put into a page as it is."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return `value` escaped, unless it is `Html` already."""
    return value if isinstance(value, Html) else Html(escape(str(value), quote=True))


def join(parts: Iterable[Html | str], separator: str = "\n") -> Html:
    """Return the escaped parts one after the other."""
    return Html(separator.join(text(part) for part in parts))


def tag(name: str, *content: Html | str, **attributes: str) -> Html:
    """Return an element; ``class_`` stands for the attribute class, and an underscore for a hyphen."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{join(content, '')}</{name}>")


def paragraph(*content: Html | str, class_: str = "") -> Html:
    """Return a paragraph."""
    return tag("p", *content, **({"class_": class_} if class_ else {}))


def section(anchor: str, title: str, *content: Html | str | None) -> Html | None:
    """Return a titled section; None if there is nothing in it."""
    parts = [part for part in content if part]
    return tag("section", tag("h2", title), *parts, id=anchor) if parts else None


def figure(svg: str, title: str, caption: str) -> Html:
    """Return a drawn figure with a sentence that says what it shows and what good looks like."""
    image = Html(svg.replace("<svg ", f'<svg aria-label="{escape(title)}" ', 1))
    return tag(
        "figure", tag("h3", title), tag("div", image, class_="plot"), tag("figcaption", caption)
    )


def picture(png: bytes, title: str) -> Html:
    """Return a PNG picture, held in the page itself."""
    data = base64.b64encode(png).decode()
    image = Html(f'<img src="data:image/png;base64,{data}" alt="{escape(title)}">')
    return tag("figure", image, tag("figcaption", title), class_="sample")


def table(content: Table, explanation: str = "") -> Html:
    """Return a table with its title, an explanation, and its note."""
    head = tag(
        "tr", *(_cell("th", name, index, content) for index, name in enumerate(content.columns))
    )
    body = [_row(cells, content) for cells in content.rows]
    foot = [_row(cells, content) for cells in content.summary]
    parts = [tag("thead", head), tag("tbody", *body), *([tag("tfoot", *foot)] if foot else [])]
    return tag(
        "div",
        tag("h3", content.title),
        *([paragraph(explanation, class_="explain")] if explanation else []),
        tag("div", tag("table", *parts), class_="scroll"),
        *([paragraph(content.note, class_="note")] if content.note else []),
        class_="block",
    )


def columns(*parts: Html | None) -> Html | None:
    """Return the parts side by side where the page is wide enough; None if there are none."""
    there = [part for part in parts if part is not None]
    return tag("div", *(tag("div", part) for part in there), class_="columns") if there else None


def details(summary: str, content: Html) -> Html:
    """Return `content` folded away behind one line."""
    return tag("details", tag("summary", summary), content)


def facts(pairs: Sequence[tuple[str, Html | str]]) -> Html:
    """Return names and values, one pair a line."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs),
        class_="facts",
    )


def cards(items: Sequence[tuple[str, str, str]]) -> Html:
    """Return key figures: name, value, remark."""
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("div", name, class_="name"),
                tag("div", value, class_="value"),
                tag("div", remark, class_="remark"),
                class_="card",
            )
            for name, value, remark in items
        ),
        class_="cards",
    )


def page(title: str, header: Html, sections: Sequence[tuple[str, str, Html]]) -> str:
    """Return a whole page that needs nothing but itself.

    Parameters
    ----------
    sections
        (anchor, title, HTML) of each.
    """
    style = files("sheafalign_fl.report").joinpath("report.css").read_text(encoding="utf-8")
    links = (tag("a", name, href=f"#{anchor}") for anchor, name, _ in sections)
    body = join([header, tag("nav", *links), *(content for _, _, content in sections), _footer()])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Even if something slipped through the escaping, the browser runs no script and loads nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _row(cells: tuple[str, ...], content: Table) -> Html:
    if cells == GAP:
        return tag("tr", tag("td", "…", colspan=str(len(content.columns))), class_="gap")
    return tag("tr", *(_cell("td", cell, index, content) for index, cell in enumerate(cells)))


def _cell(name: str, content: str, index: int, whole: Table) -> Html:
    if index >= whole.text_columns:
        first, *more = content.split("\n")
        return tag(
            name, first, *(tag("span", line, class_="second") for line in more), class_="number"
        )
    return tag(name, content, **({"class_": "long"} if index in whole.wide else {}))


def _footer() -> Html:
    return tag(
        "footer",
        f"Written by sheafalign-fl {__version__}. This file needs nothing but itself: no network, no scripts.",
    )
