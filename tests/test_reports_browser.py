"""The page of a report, and fragments of it, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handgrad.report import Report
from handgrad.reports.page import fragment, page
from sample_reports import FINDINGS, hostile, notebook, right

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WRONG = FINDINGS["dcounts_sum_inv"]

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM}: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield started
        started.close()


Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Return a function that opens HTML; at the end of the test nothing was loaded and nothing complained."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def open_page(html: str, width: int = 1280, **options: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", dismiss)
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        return tab

    def dismiss(dialog: Any) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) == {(tmp_path / "report.html").as_uri()}


def gradient(tab: Any, name: str) -> Any:
    return tab.locator(".gradient").filter(has=tab.locator(f"summary b:text-is('{name}')"))


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_a_click_shows_the_reason_and_the_button_the_expected_line(show: Show, javascript: bool) -> None:
    tab = show(page(notebook()), java_script_enabled=javascript)
    wrong = gradient(tab, "dcounts_sum_inv")
    reason, fix = wrong.locator(".message"), wrong.locator(".fix pre")
    assert not reason.is_visible()

    wrong.locator("> summary").click()

    assert reason.inner_text() == WRONG.message.replace("`", "")
    assert wrong.locator("svg[role=img]").is_visible()
    assert not fix.is_visible()

    wrong.get_by_text("Show the expected line").click()

    assert fix.is_visible()
    assert fix.inner_text() == WRONG.fix


def test_the_reason_opens_by_keyboard(show: Show) -> None:
    tab = show(page(notebook()))
    wrong = gradient(tab, "dcounts_sum_inv")

    wrong.locator("> summary").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")

    assert wrong.locator(".fix pre").is_visible()


@pytest.mark.parametrize("sample", [notebook, right, hostile])
@pytest.mark.parametrize("width", [1280, 420, 320])
@pytest.mark.parametrize("make", [page, fragment])
def test_nothing_sticks_out(show: Show, make: Callable[[Report], str], width: int, sample: Any) -> None:
    tab = show(make(sample()), width)

    tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")

    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    beyond = (
        "[...document.querySelectorAll('.hg *:not(path)')].filter((e) => e.getBoundingClientRect().right > innerWidth)"
    )
    assert tab.evaluate(f"{beyond}.map((e) => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("make", [page, fragment])
def test_a_value_lights_up_with_its_gradient_and_the_other_way_round(show: Show, make: Callable[[Report], str]) -> None:
    tab = show(make(notebook()), reduced_motion="reduce")
    value = tab.locator(".forward .row").filter(has=tab.locator("b:text-is('counts_sum_inv')"))
    summary = gradient(tab, "dcounts_sum_inv").locator("> summary")

    def colours() -> list[str]:
        return [one.evaluate("(e) => getComputedStyle(e).backgroundColor") for one in (value, summary)]

    assert colours() == ["rgba(0, 0, 0, 0)"] * 2
    for hovered in (value, summary):
        hovered.hover()
        assert colours() == ["rgb(255, 241, 196)"] * 2
        tab.mouse.move(0, 0)
        assert colours() == ["rgba(0, 0, 0, 0)"] * 2


def test_a_line_joins_each_value_to_its_gradient(show: Show) -> None:
    tab = show(page(notebook()))
    ends = """([path, row, summary]) => {
      const [line, from, to] = [path, row, summary].map((e) => e.getBoundingClientRect());
      return [line.left - from.right, to.left - line.right];
    }"""
    paths = tab.locator(".links path")

    classes = " ".join(one.get_attribute("class") for one in tab.locator(".gradient").all())
    keys = [name for name in classes.split() if name.startswith("p0v")]

    assert paths.count() == len(keys) == 18
    for key in keys:
        path, row = tab.locator(f".links path.{key}"), tab.locator(f".forward .{key}")
        summary = tab.locator(f".gradient.{key} > summary")
        handles = [one.element_handle() for one in (path, row, summary)]
        assert all(0 <= gap < 12 for gap in tab.evaluate(ends, handles))


CONTRAST = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const found = [];
  for (const element of document.querySelectorAll(".hg *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const behind = [];
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const both = [painted(behind), painted([...behind, getComputedStyle(element).color])].map(luminance);
    found.push([(Math.max(...both) + 0.05) / (Math.min(...both) + 0.05), element.className, element.textContent]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(show: Show, scheme: str) -> None:
    tab = show(page(notebook()), color_scheme=scheme, reduced_motion="reduce")
    tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    gradient(tab, "dcounts_sum_inv").locator("> summary").hover()

    contrasts = tab.evaluate(CONTRAST)

    assert len(contrasts) > 200
    assert contrasts[0][0] >= 4.5, contrasts[:3]
    background = tab.evaluate("getComputedStyle(document.querySelector('.hg')).backgroundColor")
    assert background == {"light": "rgb(253, 252, 250)", "dark": "rgb(21, 23, 28)"}[scheme]


def test_a_fragment_changes_nothing_around_it(show: Show) -> None:
    around = "<p>text <code>code</code></p><details open><summary>more</summary><ul><li>one</li></ul></details>"
    styles = """() => [...document.querySelectorAll("body > p, body > p *, body > details, body > details *")]
      .map((element) => Object.fromEntries([...getComputedStyle(element)].map((name) => [name, getComputedStyle(element)
      .getPropertyValue(name)])))"""
    frame = '<!doctype html><meta charset="utf-8">{}<body style="width: 900px; height: 9000px">{}{}'

    alone = show(frame.format("", around, "")).evaluate(styles)
    beside = show(frame.format("", around, fragment(notebook()) + fragment(right()))).evaluate(styles)

    assert len(alone) == 6
    assert alone == beside


def test_two_fragments_on_a_page_light_up_apart(show: Show) -> None:
    tab = show(fragment(notebook()) + fragment(right()), reduced_motion="reduce")

    tab.locator(".hg").nth(1).locator(".forward .row").nth(17).hover()

    lit = [tab.locator(".hg").nth(i).locator(".forward .row").nth(17) for i in (0, 1)]
    colours = [row.evaluate("(e) => getComputedStyle(e).backgroundColor") for row in lit]
    assert colours == ["rgba(0, 0, 0, 0)", "rgb(255, 241, 196)"]


def test_on_paper_the_reasons_stand_open_and_the_expected_lines_stay_hidden(show: Show) -> None:
    tab = show(page(notebook()), color_scheme="dark")

    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert gradient(tab, "dcounts_sum_inv").locator(".message").is_visible()
    assert not gradient(tab, "dcounts_sum_inv").locator(".fix").is_visible()
    assert tab.evaluate("getComputedStyle(document.querySelector('.hg')).backgroundColor") == "rgb(255, 255, 255)"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator(".gradient[open]").count() == 0
