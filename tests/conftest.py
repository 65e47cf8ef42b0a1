"""Fixtures, and an environment in which the built-in names are the default."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import settings

ORIGINAL_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
HANDGRAD_WORDS = os.environ.get("HANDGRAD_WORDS")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write the golden files anew; never in CI.")


settings.register_profile("handgrad", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("handgrad")


@pytest.fixture(scope="session", autouse=True)
def _the_built_in_names_are_the_default() -> None:
    os.environ.pop("HANDGRAD_WORDS", None)


@pytest.fixture(scope="session", autouse=True)
def _the_cache_is_our_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["HANDGRAD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def original_names() -> Path:
    """Return the list that both documents use, if the variable HANDGRAD_WORDS names it."""
    if not HANDGRAD_WORDS:
        pytest.skip("needs the original names list: set HANDGRAD_WORDS to its path (`handgrad data download`)")
    path = Path(HANDGRAD_WORDS).resolve()
    if hashlib.sha256(path.read_bytes()).hexdigest() != ORIGINAL_SHA256:
        pytest.skip(f"HANDGRAD_WORDS names {path.name}, which is not the original names list")
    return path
