"""The pieces of an HTML page, out of `templates/`. The template engine escapes all text.

What a piece returns is `Html`, which other pieces take as it is; every other string is text.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sheafalign_fl.report.content import GAP, Table
from sheafalign_fl.version import __version__

Html = Markup


def code(text: str) -> Html:
    """Return `text` as code within a line."""
    return _piece("code", text=text)


def source(text: str) -> Html:
    """Return `text` as lines of code, as they are."""
    return _piece("source", text=text)


def named(name: str, text: str) -> Html:
    """Return what is said of `name`, in a line."""
    return _piece("named", name=name, text=text)


def verdict(text: str, kind: str) -> Html:
    """Return `text` in the colour of its `kind`: holds, fails or open."""
    return _piece("verdict", text=text, kind=kind)


def badge(words: str, kind: str = "") -> Html:
    """Return a state, as a label."""
    return _piece("badge", words=words, kind=kind)


def together(parts: Iterable[Html]) -> Html:
    """Return the parts one after the other."""
    return _piece("together", parts=tuple(parts))


def paragraph(*parts: Html | str, kind: str = "") -> Html:
    """Return a paragraph of the class `kind`."""
    return _piece("paragraph", parts=parts, kind=kind)


def section(anchor: str, title: str, *content: Html | None) -> Html | None:
    """Return a titled section; None if there is nothing in it."""
    parts = [part for part in content if part]
    return _piece("section", anchor=anchor, title=title, parts=parts) if parts else None


def figure(svg: str, title: str, caption: str) -> Html:
    """Return a drawn figure with a sentence that says what it shows and what good looks like.

    Parameters
    ----------
    svg
        An element that `report.style.to_svg` drew, which escapes the text in it.
    """
    drawing = Html(svg.removeprefix("<svg "))
    return _piece("figure", drawing=drawing, title=title, caption=caption)


def samples(pictures: Mapping[str, bytes]) -> Html:
    """Return PNG pictures by title, held in the page itself."""
    encoded = [(title, base64.b64encode(png).decode()) for title, png in pictures.items()]
    return _piece("samples", pictures=encoded)


def table(content: Table, explanation: str = "") -> Html:
    """Return a table with its title, an explanation, and its note."""
    return _piece("table", content=content, gap=GAP, explanation=explanation)


def columns(*parts: Html | None) -> Html | None:
    """Return the parts side by side where the page is wide enough; None if there are none."""
    there = [part for part in parts if part is not None]
    return _piece("columns", parts=there) if there else None


def details(summary: str, content: Html) -> Html:
    """Return `content` folded away behind one line."""
    return _piece("details", summary=summary, content=content)


def listing(items: Sequence[Html | str]) -> Html:
    """Return a list of points."""
    return _piece("listing", items=items)


def facts(pairs: Sequence[tuple[str, Html | str]]) -> Html:
    """Return names and values, one pair a line."""
    return _piece("facts", pairs=pairs)


def cards(items: Sequence[tuple[str, str, str]]) -> Html:
    """Return key figures: name, value, remark."""
    return _piece("cards", items=items)


def header(
    eyebrow: str, title: str, lead: str, parts: Sequence[Html], *, mark: Html | None = None
) -> Html:
    """Return the head of a page: what it is, its title with a `mark`, a sentence, and more."""
    return _piece(
        "header", eyebrow=eyebrow, title=title, lead=lead, parts=parts, mark=mark or Html()
    )


def page(title: str, header: Html, sections: Sequence[tuple[str, str, Html]]) -> str:
    """Return a whole page that needs nothing but itself.

    Parameters
    ----------
    sections
        (anchor, title, HTML) of each.
    """
    style = files("sheafalign_fl.report").joinpath("report.css").read_text(encoding="utf-8")
    return _templates().get_template("page.html").render(
        title=title,
        style=Html(style),
        header=header,
        sections=sections,
        version=__version__,
    )  # fmt: skip


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("sheafalign_fl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _piece(macro: str, **arguments: object) -> Html:
    """Return what `macro` of ``pieces.html`` makes of its arguments."""
    fill = getattr(_templates().get_template("pieces.html").module, macro)
    filled: Html = fill(**arguments)
    return filled
