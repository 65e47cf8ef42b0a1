"""A `Report` for build servers: JUnit XML, and the annotations of GitHub Actions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from handgrad.reports.wording import folded, headline, number_words, printable, shape_words, verdict_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from handgrad.report import Finding, Gradient, Pass, Place, Report

FAILURES = ("wrong", "inherited", "missing")


def junit(report: Report) -> str:
    """Return ``report`` as JUnit XML: a suite for each pass, a test for each gradient.

    ``wrong``, ``inherited`` and ``missing`` are failures, and ``unverified`` is skipped. A pass without a gradient
    holds one test that is an error, so that a file in which nothing was found does not pass.
    """
    file = printable(report.file or "report")
    passes = [_suite(report, backward, file, number) for number, backward in enumerate(report.passes, 1)]
    suites = passes or [_empty_suite(file)]
    root = ElementTree.Element("testsuites", {"name": "handgrad", **_counts(suites)})
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def github(report: Report) -> str:
    """Return ``report`` as workflow commands of GitHub Actions, one a line: errors, warnings and notices.

    A notebook's annotation names its cell in the title, since a line of a cell is no line of the file. The gradients
    that are missing are one annotation, and so are those that inherit a mistake: GitHub shows ten of a step.
    """
    commands = []
    for gradient in report.gradients:
        for mistake in gradient.mistakes:
            title = f"{mistake.code} {mistake.kind} in {gradient.name}"
            commands.append(_command("error", report.file, mistake.place, title, _message(mistake)))
        if gradient.verdict == "wrong" and not gradient.mistakes:
            place, message = gradient.place, gradient.note or _facts(gradient)
            commands.append(_command("error", report.file, place, f"{gradient.name} is wrong", message))
    for level, verdict, one, many in (
        ("error", "inherited", "inherits a mistake", "inherit a mistake"),
        ("error", "missing", "is not written yet", "are not written yet"),
        ("notice", "unverified", "could not be tested", "could not be tested"),
    ):
        alike = [g for g in report.gradients if g.verdict == verdict and not g.mistakes]
        if alike:
            commands.append(_command(level, report.file, alike[0].place, verdict, folded(alike, one, many)))
    for warning in report.warnings:
        title = f"{warning.code} {warning.kind}"
        commands.append(_command("warning", report.file, warning.place, title, _message(warning)))
    if not report.gradients:
        commands.append(_command("error", report.file, None, "handgrad", headline(report)))
    return "".join(f"{command}\n" for command in commands)


def _suite(report: Report, backward: Pass, file: str, number: int) -> ElementTree.Element:
    if not backward.gradients:
        return _empty_suite(file)
    name = file if len(report.passes) == 1 else f"{file}, pass {number}"
    suite = ElementTree.Element("testsuite", {"name": name})
    loss = [] if report.loss_name is None else [(report.loss_name, str(report.loss_value))]
    _add_properties(suite, [("file", file), ("torch", report.torch or ""), *loss])
    for gradient in backward.gradients:
        case = ElementTree.SubElement(suite, "testcase", {"classname": file, "name": printable(gradient.name)})
        if gradient.line is not None and gradient.cell is None:
            case.set("line", str(gradient.line))
        _add_properties(case, _properties(gradient))
        if gradient.verdict in FAILURES:
            _add_result(case, "failure", gradient)
        elif gradient.verdict == "unverified":
            _add_result(case, "skipped", gradient)
    if number == 1 and (report.warnings or report.notes):
        said = [f"{w.place}: {w.code} {w.kind}: {w.message}" if w.line else f"{w.code} {w.kind}: {w.message}"
                for w in report.warnings]  # fmt: skip
        output = ElementTree.SubElement(suite, "system-out")
        output.text = printable("\n".join([*said, *(f"note: {note}" for note in report.notes)]))
    suite.attrib |= _counts([suite])
    return suite


def _empty_suite(file: str) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", {"name": file})
    case = ElementTree.SubElement(suite, "testcase", {"classname": file, "name": "gradients"})
    ElementTree.SubElement(case, "error", {"type": "no-gradient", "message": "no gradient was found"})
    suite.attrib |= _counts([suite])
    return suite


def _counts(suites: Iterable[ElementTree.Element]) -> dict[str, str]:
    tags = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    return {name: str(sum(1 for suite in suites for _ in suite.iter(tag))) for name, tag in tags.items()}


def _properties(gradient: Gradient) -> list[tuple[str, str]]:
    written = [] if gradient.line is None else [("place", str(gradient.place))]
    shapes = [("shape", gradient.shape), ("expected_shape", gradient.expected_shape)]
    numbers = [(name, getattr(gradient, name)) for name in ("maxdiff", "error", "autograd_error")]
    return [
        ("verdict", verdict_words(gradient)),
        *written,
        *((name, str(shape)) for name, shape in shapes if shape is not None),
        ("exact", str(gradient.exact)),
        ("approximate", str(gradient.approximate)),
        *((name, repr(number)) for name, number in numbers if number is not None),
    ]


def _add_properties(parent: ElementTree.Element, pairs: list[tuple[str, str]]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in pairs:
        ElementTree.SubElement(properties, "property", {"name": printable(name), "value": printable(value)})


def _add_result(case: ElementTree.Element, tag: str, gradient: Gradient) -> None:
    messages = [f"{m.code} {m.kind}: {m.message}" for m in gradient.mistakes] + (
        [gradient.note] if gradient.note else []
    )
    kinds = ", ".join(mistake.kind for mistake in gradient.mistakes)
    message = printable("; ".join(messages) or _facts(gradient))
    result = ElementTree.SubElement(case, tag, {"type": kinds or gradient.verdict, "message": message})
    details = [f"{m.place}: {m.code} {m.kind}\n{_message(m)}" for m in gradient.mistakes]
    result.text = printable("\n\n".join([*([gradient.code] if gradient.code else []), *details])) or None


def _facts(gradient: Gradient) -> str:
    """Return what is known of a gradient that no finding explains."""
    if gradient.verdict == "missing":
        return f"{gradient.name} is not written yet"
    shape = f", shape {shape_words(gradient)}" if shape_words(gradient) else ""
    if gradient.verdict == "inherited":
        return f"the line of {gradient.name} is right, and reads a gradient that is not"
    return f"{gradient.name} is {gradient.verdict}: maxdiff {number_words(gradient.maxdiff)}{shape}"


def _message(finding: Finding) -> str:
    return finding.message if finding.fix is None else f"{finding.message}\ndid you mean: {finding.fix}"


def _command(level: str, file: str | None, place: Place | None, title: str, message: str) -> str:
    properties = {"file": file} if file else {}
    if place is not None and place.line is not None:
        if place.cell is None:
            properties["line"] = str(place.line)
        else:
            title = f"{place}: {title}"
    properties["title"] = title
    said = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
    return f"::{level} {said}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    """Return ``text`` as GitHub reads it back: per cent signs and line ends as %XX, and those in ``more`` as well."""
    text = "\r".join(map(printable, text.split("\r")))
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
