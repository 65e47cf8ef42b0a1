"""The faces of a report: terminal, page, notebook, JSON, JUnit, GitHub. The browser has a file of its own."""

from __future__ import annotations

import copy
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from handgrad.diagnosis import CODES
from handgrad.report import VERDICTS, Finding, ForwardLine, Gradient, HeatMap, Pass, Report
from handgrad.reports.ci import github, junit
from handgrad.reports.heatmap import picture
from handgrad.reports.page import fragment, page
from handgrad.reports.terminal import print_report, report_text
from handgrad.reports.wording import CONTROL, headline, printable
from sample_reports import FINDINGS, MISSING, NASTY, heat, hostile, notebook, right

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads(files("handgrad.reports").joinpath("report.schema.json").read_text(encoding="utf-8"))
SAMPLES = [notebook, right, hostile]

numbers = st.none() | st.floats(allow_nan=False)
cells = st.none() | st.integers(0, 99)
lines = st.none() | st.integers(1, 999)
shapes = st.lists(st.integers(0, 99), max_size=3).map(tuple)
tiles = st.lists(st.lists(st.floats(allow_nan=False), max_size=3).map(tuple), max_size=3).map(tuple)
heats = st.builds(HeatMap, st.tuples(st.integers(0, 99), st.integers(0, 99)), tiles)
findings = st.builds(
    lambda kind, *rest: Finding(CODES[kind], kind, *rest),
    st.sampled_from(sorted(CODES)), cells, lines, st.text(), st.none() | st.text(),
)  # fmt: skip
gradients = st.builds(
    Gradient,
    name=st.text(), of=st.text(), verdict=st.sampled_from(VERDICTS), cell=cells, line=lines, code=st.none() | st.text(),
    shape=st.none() | shapes, expected_shape=st.none() | shapes, exact=st.booleans(), approximate=st.booleans(),
    maxdiff=numbers, bits=st.sampled_from(["exact", "rounding", None]), error=numbers, autograd_error=numbers,
    mistakes=st.lists(findings, max_size=2).map(tuple), note=st.none() | st.text(), difference=st.none() | heats,
)  # fmt: skip
passes = st.builds(
    Pass,
    st.lists(st.builds(ForwardLine, st.text(), cells, lines, st.text(), shapes), max_size=3).map(tuple),
    st.lists(gradients, max_size=3).map(tuple),
)
losses = st.tuples(st.none(), st.none()) | st.tuples(st.text(min_size=1), numbers)
reports = st.builds(
    lambda loss, **fields: Report(loss_name=loss[0], loss_value=loss[1], **fields),
    losses, passes=st.lists(passes, max_size=2).map(tuple), file=st.none() | st.text(), torch=st.none() | st.text(),
    warnings=st.lists(findings, max_size=2).map(tuple), notes=st.lists(st.text(), max_size=2).map(tuple),
)  # fmt: skip


def one(gradient: Gradient, **fields: Any) -> Report:
    return Report((Pass((), (gradient,)),), **fields)


def printed(report: Report, width: int, **options: Any) -> str:
    file = io.StringIO()
    print_report(Console(file=file, width=width, **options), report)
    return file.getvalue()


class Page(HTMLParser):
    """What a browser would see: tags, attributes, visible text, style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = self.style = self.script = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        if where in ("style", "script"):
            setattr(self, where, getattr(self, where) + data)
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


# --- JSON -------------------------------------------------------------------------------------------------------------


@given(reports)
def test_a_report_survives_its_json(report: Report) -> None:
    assert Report.from_dict(report.to_dict()) == report
    assert Report.from_dict(json.loads(report.to_json())) == report


def test_numbers_that_json_does_not_have_survive_it() -> None:
    again = Report.from_dict(json.loads(hostile().to_json()))

    assert again.to_dict() == hostile().to_dict()
    assert again.loss_value is not None
    assert math.isnan(again.loss_value)
    assert again.gradients[0].error == math.inf
    assert again.gradients[0].difference is not None
    assert [type(tile) for row in again.gradients[0].difference.tiles for tile in row] == [float] * 4


@given(reports)
def test_every_report_follows_the_schema(report: Report) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(report.to_json()))


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_follow_the_schema(sample: Callable[[], Report]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(sample().to_json()))


GRADIENT = ("passes", 0, "gradients", 2)
VIOLATIONS: list[tuple[tuple[str | int, ...], Any]] = [
    (("schema",), "handgrad.report/2"),
    (("author",), "somebody"),
    (("file",), 3),
    (("loss", "value"), "much"),
    (("loss", "unit"), "nats"),
    (("summary", "right"), -1),
    (("summary", "fine"), 1),
    (("passes", 0, "forward", 0, "line"), 0),
    (("passes", 0, "forward", 0, "shape"), [32, 1.5]),
    (("passes", 0, "forward", 0, "gradient"), "demb"),
    ((*GRADIENT, "verdict"), "exact"),
    ((*GRADIENT, "cell"), -1),
    ((*GRADIENT, "bits"), "some"),
    ((*GRADIENT, "exact"), "yes"),
    ((*GRADIENT, "maxdiff"), "NaN"),
    ((*GRADIENT, "mistakes", 0, "code"), "201"),
    ((*GRADIENT, "mistakes", 0, "kind"), "Missing sum"),
    ((*GRADIENT, "difference", "shape"), [32]),
    ((*GRADIENT, "difference", "tiles", 0), 0.5),
    ((*GRADIENT, "difference", "scale"), 1),
    (("warnings", 0, "level"), 1),
    (("notes", 0), None),
]


@pytest.mark.parametrize(("path", "planted"), VIOLATIONS, ids=[".".join(map(str, p)) for p, _ in VIOLATIONS])
def test_a_planted_violation_breaks_the_schema(path: tuple[str | int, ...], planted: Any) -> None:
    data = notebook().to_dict()
    inner: Any = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = planted

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


def objects(schema: Any) -> list[dict[str, Any]]:
    """Return every schema of an object, those within others too."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    found = [schema] if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) else []
    return found + [one for part in inner for one in objects(part)]


def test_the_schema_asks_for_every_field_allows_no_other_and_describes_each() -> None:
    assert len(objects(SCHEMA)) == 8
    for schema in objects(SCHEMA):
        assert schema["additionalProperties"] is False
        assert sorted(schema["required"]) == sorted(schema["properties"])
        for name, field in schema["properties"].items():
            target = SCHEMA["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
            assert "description" in field | target, name


def test_a_report_without_one_of_its_fields_breaks_the_schema() -> None:
    for name in notebook().to_dict():
        data = copy.deepcopy(notebook().to_dict())
        del data[name]
        with pytest.raises(jsonschema.ValidationError, match=f"'{name}' is a required property"):
            jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_the_page_on_reports_names_every_field_and_verdict() -> None:
    text = (ROOT / "docs/report.md").read_text(encoding="utf-8")

    named = set(re.findall(r"`(\w+)`", text))

    assert {name for schema in objects(SCHEMA) for name in schema["properties"]} | set(VERDICTS) <= named


@pytest.mark.parametrize(
    ("verdicts", "status", "said"),
    [
        ([], 2, "No gradient was found"),
        (["right"], 0, "The one gradient is right"),
        (["right", "right"], 0, "All 2 gradients are right"),
        (["right", "wrong"], 1, "1 of 2 gradients is wrong"),
        (["right", "inherited"], 1, "1 of 2 gradients inherits a mistake"),
        (["missing"], 1, "1 of 1 gradient is not written yet"),
        (["right", "unverified"], 2, "1 of 2 gradients could not be tested"),
        (["wrong", "wrong", "missing"], 1, "2 of 3 gradients are wrong, 1 is not written yet"),
    ],
)
def test_the_headline_and_the_exit_status_agree(verdicts: list[Any], status: int, said: str) -> None:
    report = Report((Pass((), tuple(Gradient(f"d{i}", str(i), verdict) for i, verdict in enumerate(verdicts))),))

    assert headline(report) == said
    assert report.exit_status == status


# --- terminal ---------------------------------------------------------------------------------------------------------


def test_a_mistake_is_a_block_of_place_code_message_and_fix() -> None:
    assert """
cell 10, line 7  HG201 missing-sum  dcounts_sum_inv
    dcounts_sum_inv = counts * dprobs
  counts_sum_inv has shape (32, 1) and was broadcast to (32, 27) in `probs = counts *
  counts_sum_inv`, so its gradient sums over dimension 1. Your line has the numbers before that sum,
  shape (32, 27).
  did you mean: dcounts_sum_inv = (counts * dprobs).sum(1, keepdim=True)
""" in report_text(notebook())


def test_the_table_has_the_columns_of_cmp() -> None:
    rows = [re.split(r"  +", line) for line in report_text(notebook(), width=160).splitlines()]

    assert ["verdict", "gradient", "shape", "place", "exact", "approximate", "maxdiff"] in rows
    assert ["✓ right", "dprobs", "(32, 27)", "cell 10, line 6", "True", "True", "0"] in rows
    assert ["✗ wrong", "dbngain", "(64,) for (1, 64)", "cell 10, line 17", "False", "False", "0"] in rows
    assert ["≈ right (rounding)", "dhpreact", "(32, 64)", "cell 10, line 16", "False", "True", "1.86e-09"] in rows


def test_missing_gradients_are_one_line_and_the_counts_stand_last() -> None:
    said = report_text(notebook()).splitlines()

    assert f"○ 5 gradients are not written yet: {', '.join(MISSING)}" in said
    assert said[-1] == "11 right (1 up to rounding), 3 wrong, 2 inherited, 5 missing, 1 unverified"


def test_many_missing_gradients_are_counted_beyond_thirty() -> None:
    report = Report((Pass((), tuple(Gradient(f"d{i}", str(i), "missing") for i in range(40))),))

    assert "40 gradients are not written yet: d0, d1," in report_text(report)
    assert "d29, and 10 more\n" in report_text(report)


def test_warnings_and_notes_stand_below() -> None:
    text = report_text(notebook())

    assert "\nwarning  cell 8, line 9  HG601 epsilon-dominates\n  1e05 is 100000" in text
    assert "\nwarning  HG605 split-overlap\n  1,204 words" in text
    assert "\nnote: cell 0: `%matplotlib inline` not run\n" in text


def test_a_right_report_is_short() -> None:
    said = report_text(right()).splitlines()

    assert said[0] == "train.py  All 17 gradients are right"
    assert said[-2:] == ["", "17 right (1 up to rounding)"]
    assert "≈ 1 right (rounding): dhpreact" in said
    assert len(said) == 8


@pytest.mark.parametrize("width", [80, 100, 107, 108, 160])
@pytest.mark.parametrize("sample", SAMPLES)
def test_nothing_is_cut_off_and_nothing_sticks_out(sample: Callable[[], Report], width: int) -> None:
    report = sample()

    text = printed(report, width)

    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    together = "".join(text.split())
    for finding in [*report.mistakes, *report.warnings]:
        for said in (finding.message, finding.fix or ""):
            assert "".join(printable(said).split()) in together
    assert all("".join(printable(gradient.name).split())[:12] in together for gradient in report.gradients)
    assert "…" not in text


def test_what_looks_like_markup_or_a_terminal_command_is_shown_as_it_is() -> None:
    text = printed(hostile(), 300)

    assert printable(NASTY) in text
    assert "[bold]x[/bold] [/]" in text
    assert "\x1b" not in text
    assert "\x00" not in text


def test_colour_says_nothing_that_the_plain_text_does_not() -> None:
    coloured = printed(notebook(), 100, force_terminal=True, color_system="truecolor")

    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)

    assert "\x1b[1;31m✗ wrong" in coloured
    assert [line.rstrip() for line in plain.splitlines()] == report_text(notebook()).splitlines()


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_terminal_that_knows_only_ascii_gets_only_ascii(sample: Callable[[], Report]) -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=80)

    print_report(console, sample())

    assert re.search(rb"^[x+] (wrong|right|\d+ right)", raw.getvalue(), re.MULTILINE)


@given(reports)
def test_every_report_can_be_read_as_text(report: Report) -> None:
    assert str(report) == report_text(report)
    assert not re.search(CONTROL, str(report))


# --- page and notebook ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("make", [page, fragment])
def test_html_loads_nothing_and_links_only_within_itself(make: Callable[[Report], str], sample: Any) -> None:
    parsed = Page(make(sample()))

    assert parsed.open == []
    assert not [a for a in parsed.attributes if a[1] in ("src", "srcset", "style", "data", "action")]
    assert not [a for a in parsed.attributes if a[1].startswith("on")]
    ids = parsed.values("id")
    assert len(ids) == len(set(ids)) > 10 or sample is hostile
    assert {link.removeprefix("#") for link in parsed.values("href")} <= set(ids)
    assert not re.search(r"url\(|@import|https?:", parsed.style)
    assert re.findall(r"https?:[^\"]*", parsed.script) == ["http://www.w3.org/2000/svg"] * (2 if make is page else 0)


@pytest.mark.parametrize("make", [page, fragment])
def test_html_shows_hostile_strings_as_text(make: Callable[[Report], str]) -> None:
    html = make(hostile())

    parsed = Page(html)

    assert html.count("<script>") == (1 if make is page else 0)
    assert "alert" not in parsed.script + parsed.style
    assert parsed.text.count(printable(NASTY)) > 10
    assert "{{ 7*7 }}" in parsed.text


def test_the_page_says_everything_that_the_report_does() -> None:
    report = notebook()

    text = " ".join(Page(page(report)).text.split())

    expected = [report.file, headline(report), "torch 2.13.0", "loss 3.3221", "11 right", "3 wrong", *report.notes]
    expected += [finding.message for finding in (*report.mistakes, *report.warnings)]
    expected += [finding.fix for finding in (*report.mistakes, *report.warnings) if finding.fix]
    expected += [gradient.code or gradient.name for gradient in report.gradients]
    expected += [line.code for line in report.passes[0].forward]
    for said in expected:
        assert " ".join(str(said).replace("`", "").split()) in text


def test_a_value_and_its_gradient_share_a_key_and_link_to_each_other() -> None:
    html = page(notebook())

    found = re.search(r'<li id="([\w-]+)" class="row (p0v\d+)">\s*<span[^>]*>8:18<', html)

    assert found
    assert re.search(rf'<details class="row gradient is-wrong {found[2]}" data-verdict="wrong">', html)
    assert f'<a href="#{found[1]}"><code>counts_sum_inv</code></a>' in html


def test_a_warning_stands_at_its_forward_line_as_well_as_below() -> None:
    assert Page(page(notebook())).text.count("HG601 epsilon-dominates") == 2
    assert Page(page(notebook())).text.count("HG605 split-overlap") == 1


def test_the_source_is_listed_with_its_marks_where_it_is_given() -> None:
    cells = [""] * 8 + ["\n" * 8 + "bnvar_inv = (bnvar + 1e05)**-0.5  # <b>", "", "\n" * 6 + "dcounts_sum_inv = counts"]

    html = page(notebook(), source=cells)

    assert re.search(r'-s8l9" class="is-warning">', html)
    assert re.search(r'-s10l7" class="is-wrong">', html)
    assert re.search(r'<a class="where" href="#[\w-]+-s10l7">cell 10, line 7</a>', html)
    assert "<i># &lt;b&gt;</i>" in html
    assert "Source" not in Page(page(notebook())).text


def test_a_fragment_is_a_part_of_a_page_whose_style_stays_inside() -> None:
    html = notebook()._repr_html_()

    parsed = Page(html)

    assert html == fragment(notebook())
    assert not set(re.findall(r"<(\w+)", html)) & {"html", "head", "body", "script", "h1", "main"}
    rules = [line for line in parsed.style.splitlines() if re.match(r"[^\s}@]", line)]
    assert len(rules) > 10
    assert all(re.match(r'(\[data-jp-theme-light="\w+"\] )?\.hg', rule) for rule in rules)


def test_fragments_of_two_reports_share_no_id() -> None:
    first, second = (set(Page(fragment(sample())).values("id")) for sample in (notebook, right))

    assert not first & second


@given(reports)
def test_every_report_becomes_well_formed_html(report: Report) -> None:
    assert Page(page(report)).open == []
    assert Page(fragment(report)).open == []


def test_a_heat_map_has_a_path_for_each_step_of_its_scale() -> None:
    drawn = picture(HeatMap((4, 6), ((0.0, 0.0, 8.0), (1e-9, 3.5, math.nan))))

    assert drawn.paths == [
        ("h0", "M0 0h2v1h-2z"), ("h1", "M0 1h1v1h-1z"), ("h4", "M1 1h1v1h-1z"), ("h8", "M2 0h1v1h-1z"),
        ("hx", "M2 1h1v1h-1z"),
    ]  # fmt: skip
    assert drawn.words == "largest difference in each tile of 2 × 2 entries: 8"
    assert drawn.not_finite


def test_a_heat_map_without_a_difference_is_cold() -> None:
    assert [step for step, _ in picture(heat(3, 3, 0.0)).paths] == ["h0"]


# --- build servers ----------------------------------------------------------------------------------------------------


def parsed_xml(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(junit(report).encode())  # noqa: S314 (our own output)


def test_junit_has_a_test_for_each_gradient() -> None:
    suites = parsed_xml(notebook())

    cases = list(suites.iter("testcase"))
    assert [case.get("name") for case in cases] == [gradient.name for gradient in notebook().gradients]
    assert {case.get("classname") for case in cases} == {"makemore_part4_backprop.ipynb"}
    counts = {"tests": "22", "failures": "10", "errors": "0", "skipped": "1"}
    assert suites.attrib == {"name": "handgrad", **counts}
    assert suites[0].attrib == {"name": "makemore_part4_backprop.ipynb", **counts}
    assert [case.get("name") for case in cases if case.find("skipped") is not None] == ["dbnvar"]


def test_a_failure_of_junit_says_why() -> None:
    case = next(case for case in parsed_xml(notebook()).iter("testcase") if case.get("name") == "dcounts_sum_inv")

    failure = case.find("failure")
    assert failure is not None
    assert failure.get("type") == "missing-sum"
    assert failure.get("message") == f"HG201 missing-sum: {FINDINGS['dcounts_sum_inv'].message}"
    assert "did you mean: dcounts_sum_inv = (counts * dprobs)" in (failure.text or "")
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert properties["place"] == "cell 10, line 7"
    assert properties["expected_shape"] == "(32, 1)"


@pytest.mark.parametrize(
    ("verdict", "tag"),
    [
        ("right", None),
        ("wrong", "failure"),
        ("inherited", "failure"),
        ("missing", "failure"),
        ("unverified", "skipped"),
    ],
)
def test_each_verdict_has_its_result_in_junit(verdict: Any, tag: str | None) -> None:
    case = next(parsed_xml(one(Gradient("dx", "x", verdict))).iter("testcase"))

    assert [child.tag for child in case if child.tag != "properties"] == ([tag] if tag else [])


def test_a_report_without_a_gradient_is_an_error_in_junit() -> None:
    for report in (Report(()), Report((Pass((), ()),))):
        assert parsed_xml(report).attrib == {
            "name": "handgrad", "tests": "1", "failures": "0", "errors": "1", "skipped": "0"
        }  # fmt: skip


def test_hostile_strings_come_back_from_junit() -> None:
    case = next(parsed_xml(hostile()).iter("testcase"))

    assert case.get("name") == printable(f"d{NASTY}")
    assert printable(f"message {NASTY}\nsecond line") in (case.find("failure").text or "")  # type: ignore[union-attr]


@given(reports)
def test_every_report_becomes_well_formed_xml(report: Report) -> None:
    assert len(list(parsed_xml(report).iter("testcase"))) >= len(report.gradients)


COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")


def commands(report: Report) -> list[tuple[str, dict[str, str], str]]:
    """Return the commands as GitHub reads them."""

    def unescaped(text: str, *more: str) -> str:
        for character in ("\r", "\n", *more, "%"):
            text = text.replace(f"%{ord(character):02X}", character)
        return text

    found = []
    for line in github(report).split("\n")[:-1]:
        match = COMMAND.fullmatch(line)
        assert match, line
        pairs = [pair.split("=", 1) for pair in match[2].split(",")]
        found.append((match[1], {name: unescaped(value, ":", ",") for name, value in pairs}, unescaped(match[3])))
    return found


def test_a_mistake_of_a_script_is_annotated_at_its_line() -> None:
    mistake = Finding("HG213", "sign", None, 12, "the sign is 100% wrong", "dx = -dy")

    assert github(one(Gradient("dx", "x", "wrong", None, 12, mistakes=(mistake,)), file="a,b:c.py")) == (
        "::error file=a%2Cb%3Ac.py,line=12,title=HG213 sign in dx::the sign is 100%25 wrong%0Adid you mean: dx = -dy\n"
    )


def test_an_annotation_of_a_notebook_names_the_cell_and_no_line_of_the_file() -> None:
    level, properties, message = commands(notebook())[0]

    assert level == "error"
    assert properties == {
        "file": "makemore_part4_backprop.ipynb", "title": "cell 10, line 7: HG201 missing-sum in dcounts_sum_inv"
    }  # fmt: skip
    assert message.startswith("counts_sum_inv has shape (32, 1)")


def test_what_has_no_place_of_its_own_is_folded() -> None:
    said = [(level, message) for level, _, message in commands(notebook())]

    assert said[3:6] == [
        ("error", "2 gradients inherit a mistake: dcounts_sum, dcounts"),
        ("error", f"5 gradients are not written yet: {', '.join(MISSING)}"),
        ("notice", "1 gradient could not be tested: dbnvar"),
    ]
    assert [level for level, _ in said[6:]] == ["warning", "warning"]


def test_a_right_report_annotates_nothing_and_an_empty_one_does() -> None:
    assert github(right()) == ""
    assert commands(Report(())) == [("error", {"title": "handgrad"}, "No gradient was found")]


def test_hostile_strings_come_back_from_github() -> None:
    level, properties, message = commands(hostile())[0]

    assert level == "error"
    assert properties["file"] == printable(NASTY)
    assert properties["title"] == f"cell 0, line 1: HG299 unknown in d{printable(NASTY)}"
    assert message.startswith(f"message {printable(NASTY)}\nsecond line\ndid you mean: fix")
    assert message.endswith("\r\nnext")


@given(reports)
def test_every_failing_report_has_an_error_for_github(report: Report) -> None:
    levels = [level for level, _, _ in commands(report)]

    if report.exit_status == 1:
        assert "error" in levels
    assert len(levels) >= len(report.mistakes) + len(report.warnings)


def test_a_wrong_gradient_that_nothing_explains_is_annotated_with_its_numbers() -> None:
    gradient = Gradient("dx", "x", "wrong", None, 3, shape=(2,), expected_shape=(1, 2), maxdiff=0.5)

    assert commands(one(gradient))[0][2] == "dx is wrong: maxdiff 0.5, shape (2,) for (1, 2)"
    assert commands(one(replace(gradient, note="it fails")))[0][2] == "it fails"
