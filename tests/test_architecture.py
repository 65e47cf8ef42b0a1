"""The architecture, as rules that a test can break."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "handgrad").rglob("*.py"))
}

# Who may not import whom: a module (and everything below it), and what it and its parts never import.
DERIVING = [f"handgrad.{name}" for name in ("rules", "deriver", "simplifier")]  # the truth of a check is autograd alone
ABOVE_DIAGNOSIS = [f"handgrad.{name}" for name in ("checker", "exercises", "training", "reports", "cli")]
PIPELINE = ["handgrad.passes", "handgrad.diagnosis", *ABOVE_DIAGNOSIS]
WITHOUT_TORCH = ("indices", "scalars", "arrays", "program", "tables", "orientation", "nests", "loops", "panels",
                 "layout", "llvm", "updates", "lowering")  # fmt: skip
FORBIDDEN = {
    "handgrad.errors": ["handgrad"],
    "handgrad.source": ["handgrad.graph", "handgrad.tracer", "handgrad.claims", *PIPELINE, "handgrad.models"],
    "handgrad.graph": ["handgrad.tracer", "handgrad.claims", *PIPELINE, "handgrad.models"],
    "handgrad.tracer": ["handgrad.claims", *PIPELINE, "handgrad.models"],
    "handgrad.claims": [*PIPELINE, *DERIVING, "handgrad.models"],
    "handgrad.runner": ["handgrad.models", "handgrad.training", "handgrad.reports", "handgrad.cli"],
    "handgrad.passes": [*ABOVE_DIAGNOSIS, "handgrad.diagnosis", "handgrad.models", "handgrad.data"],
    "handgrad.diagnosis": [*ABOVE_DIAGNOSIS, *DERIVING, "handgrad.models", "handgrad.data"],
    "handgrad.checker": [
        *DERIVING,
        "handgrad.models",
        "handgrad.training",
        "handgrad.data",
        "handgrad.reports",
        "handgrad.cli",
    ],
    "handgrad.models": [*PIPELINE, "handgrad.data"],
    "handgrad.data": [*PIPELINE, "handgrad.models", "torch"],
    "handgrad.training": ["handgrad.exercises", "handgrad.reports", "handgrad.cli"],
    "handgrad.exercises": ["handgrad.training", "handgrad.reports", "handgrad.cli"],
    "handgrad.native": [*PIPELINE, "handgrad.models", "handgrad.data"],
    **{f"handgrad.native.{name}": ["torch"] for name in WITHOUT_TORCH},
    "handgrad.reports": ["handgrad.models", "handgrad.training", "handgrad.data", "handgrad.exercises", "torch"],
}


def imports_of(source: str) -> set[str]:
    """Return every module that ``source`` imports anywhere, as dotted names; of `from a import b` also a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def broken_rules(module: str, source: str) -> list[str]:
    return [
        f"{module} imports {imported}"
        for owner, forbidden in FORBIDDEN.items()
        if is_within(module, owner)
        for imported in sorted(imports_of(source))
        if any(is_within(imported, package) for package in forbidden)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nobody_above_it(module: str) -> None:
    assert broken_rules(module, MODULES[module].read_text()) == []


def test_a_planted_import_breaks_the_rules() -> None:
    planted = "def f():\n    from handgrad.models import mlp\n"

    assert broken_rules("handgrad.checker", planted) == [
        "handgrad.checker imports handgrad.models",
        "handgrad.checker imports handgrad.models.mlp",
    ]


def test_every_rule_is_about_a_module_that_exists() -> None:
    assert set(FORBIDDEN) <= set(MODULES)


FACES = {"handgrad.cli": ["handgrad.__main__"], "handgrad.jupyter": [], "handgrad.pytest_plugin": []}


@pytest.mark.parametrize("face", FACES)
def test_nobody_imports_the_thin_faces(face: str) -> None:
    importers = [
        module
        for module, path in MODULES.items()
        if not is_within(module, face) and any(is_within(name, face) for name in imports_of(path.read_text()))
    ]

    assert importers == FACES[face]


def test_architecture_md_lists_every_module_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE)

    existing = [str(path.relative_to(SOURCE / "handgrad")) for path in MODULES.values()]

    assert sorted(listed) == sorted(existing)


def test_changelog_names_the_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


SLOW = ["torch", "numpy", "matplotlib", "rich", "safetensors", "pooch", "typer"]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import handgrad", []),
        ("import handgrad; handgrad.__version__; dir(handgrad)", []),
        ("import handgrad.data", ["numpy"]),
        ("import sys; sys.argv = ['handgrad', '--help']; from handgrad.cli import main; main()", ["typer", "rich"]),
        (
            "import sys; sys.argv = ['handgrad', 'data']; from handgrad.cli import main; main()",
            ["typer", "rich", "numpy"],
        ),
    ],
    ids=["import", "version", "data", "--help", "handgrad data"],
)
def test_nothing_slow_is_loaded_before_it_is_needed(code: str, allowed: list[str]) -> None:
    report = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint([m for m in {SLOW} if m in sys.modules])"

    output = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True).stdout

    loaded = ast.literal_eval(output.splitlines()[-1])
    assert set(loaded) <= set(allowed)


def test_public_names_are_there_and_unknown_ones_are_not() -> None:
    import handgrad

    assert all(getattr(handgrad, name) is not None for name in handgrad.__all__)
    assert dir(handgrad) == sorted(handgrad.__all__)
    with pytest.raises(AttributeError, match="module 'handgrad' has no attribute 'cpm'"):
        handgrad.cpm  # noqa: B018


def test_every_error_and_every_kind_of_mistake_has_a_code_of_its_own() -> None:
    from handgrad import diagnosis, errors, function_check

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.HandgradError)]
    codes = [c.code for c in classes]
    for kinds in (diagnosis.CODES, diagnosis.WARNINGS, function_check.CODES):
        codes += kinds.values()

    assert len(codes) == len(set(codes)) > 80
    assert {code[:3] for code in codes} == {"HG0", "HG1", "HG2", "HG3", "HG4", "HG5", "HG6", "HG7", "HG9"}
    assert sum(code.startswith("HG4") for code in codes) >= 12
    assert all(re.fullmatch(r"HG\d{3}", code) for code in codes)


def test_every_code_that_stands_in_a_text_exists() -> None:
    from handgrad.codes import titles

    texts = [*MODULES.values(), *SOURCE.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    named = {code for path in texts for code in re.findall(r"\bHG\d{3}\b", path.read_text())}

    assert named <= {"HG000", *titles()}
