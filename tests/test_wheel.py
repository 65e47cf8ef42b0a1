"""The wheel that users install: built, unpacked and run, away from the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
    ]
    subprocess.run([*command, str(ROOT)], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_package_its_names_and_its_licence_and_nothing_else(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()

    sources = {
        str(p.relative_to(ROOT / "src"))
        for p in (ROOT / "src").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert {name for name in files if ".dist-info/" not in name} == sources
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert any(name.endswith("licenses/NOTICE") for name in files)


def test_the_unpacked_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import handgrad, sys; assert handgrad.__file__.startswith(sys.argv.pop(1)), handgrad.__file__\n"
        "from handgrad.cli import main; main()"
    )

    completed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), "data"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.stderr == ""
    assert "11,451 words" in completed.stdout
