"""A run is a folder: what was asked (config, words), what happened (metrics), and where it stands (checkpoint).

    config.json             the options, and the versions that made the run
    words.txt               the words it learns from, so that the folder is complete in itself
    metrics.jsonl           a line for every `log_every` steps: step, learning rate, mean loss
    checkpoint.safetensors  parameters, generator state and step
    result.json             the final losses
    plots/                  pictures, on request

Whoever kills the process at any moment loses at most the steps since the last checkpoint, and resuming repeats them
bit for bit. For that every file but the metrics is written beside its place, flushed to the disk and renamed; the
checkpoint knows how long the metrics were, and what came later is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from handgrad.data import Dataset, build_dataset
from handgrad.errors import (
    DamagedRunError,
    InvalidOptionError,
    RunBusyError,
    RunExistsError,
    RunMismatchError,
    RunNotFoundError,
)
from handgrad.training.config import Config
from handgrad.training.files import flush_folder, not_writable, replace_file
from handgrad.training.start import first_state
from handgrad.training.state import Array, State

if TYPE_CHECKING:
    from handgrad.models import Model

SCHEMA = "handgrad.run/1"


@dataclass(frozen=True)
class Run:
    """A run folder, its options and its words."""

    path: Path
    config: Config
    words: tuple[str, ...]
    words_source: str
    made_with_other_versions: str = ""  # which, if any

    @classmethod
    def create(cls, path: Path | None, config: Config, words: tuple[str, ...], words_source: str) -> Run:
        """Make a new run folder with its first checkpoint, at step 0; it appears complete or not at all.

        Without a ``path`` it is the first free of ``runs/1``, ``runs/2`` and so on.

        Raises:
            RunExistsError: ``path`` holds something already, or cannot be made.
        """
        candidates = iter([path]) if path else (Path("runs") / str(k) for k in itertools.count(1))
        target = next(candidates)
        while not path and target.exists():
            target = next(candidates)
        state = first_state(len(_dataset(words, config).vocabulary), config)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        except OSError as error:
            raise RunExistsError(
                f"the run folder {target} cannot be made ({error.strerror}): choose another with --out"
            ) from None
        try:
            staging.chmod(0o755)
            run = cls(staging, config, words, words_source)
            run._write_json("config.json", run._description())
            replace_file(staging / "words.txt", run._words_content)
            replace_file(staging / "metrics.jsonl", b"")
            run.save_checkpoint(state)
            while True:
                try:
                    staging.rename(target)  # replaces an empty folder, and no other
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise not_writable(target, error) from None
                    if path:
                        is_run = (target / "config.json").is_file()
                        go_on = f", or go on with that run: handgrad train --resume {target}" if is_run else ""
                        raise RunExistsError(
                            f"{target} already holds something: choose another folder with --out{go_on}"
                        ) from None
                    target = next(candidates)
            flush_folder(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return cls(target, config, words, words_source)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a run folder.

        Raises:
            RunNotFoundError: there is no run at ``path``.
            DamagedRunError: its config or its words are not as they were written.
        """
        if not (path / "config.json").is_file():
            hint = "there is no such folder" if not path.exists() else "it has no config.json"
            raise RunNotFoundError(f"{path} is no run folder ({hint}): check the path, or start a run: handgrad train")
        try:
            description = json.loads((path / "config.json").read_text(encoding="utf-8"))
            if description["schema"] != SCHEMA:
                raise ValueError(f"its schema is {description['schema']!r}, and this handgrad reads {SCHEMA!r}")
            config = Config(**({"engine": "eager"} | description["config"]))  # which was the only one before 0.3
            source, digest = description["words"]["source"], description["words"]["sha256"]
            found = dict(description["versions"])
        except (ValueError, KeyError, TypeError, RecursionError, InvalidOptionError) as error:
            raise DamagedRunError(f"{path / 'config.json'} is damaged ({error}): restore it from a copy") from None
        try:
            content = (path / "words.txt").read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedRunError(
                f"{path / 'words.txt'} is not the word list that the run was started with: restore it from a copy"
            )
        other = ", ".join(f"{k} {found.get(k, 'unknown')}" for k, v in _versions().items() if found.get(k) != v)
        return cls(path, config, tuple(content.decode().split("\n")[:-1]), source, other)

    @property
    def model(self) -> Model:
        """The model that the run trains."""
        from handgrad.models import MODELS

        return MODELS[self.config.model]

    @cached_property
    def dataset(self) -> Dataset:
        """The run's words as contexts, split as its options say."""
        return _dataset(self.words, self.config)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; whatever a killed one left half written is removed.

        Raises:
            RunBusyError: another process holds it.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunBusyError(f"another process is training in {self.path}: wait for it, or stop it first") from None
        except OSError as error:
            raise not_writable(self.path / ".lock", error) from None
        try:
            for leftover in self.path.glob(".*.part"):
                leftover.unlink()
            yield
        finally:
            lock.release()

    def save_checkpoint(self, state: State) -> None:
        """Write ``state`` so that it is either wholly there or not at all."""
        tensors = {name: np.ascontiguousarray(array) for name, array in state.arrays.items()}
        tensors["generator"] = state.draws
        tensors["losses"] = np.array(state.losses, np.float64)
        about: dict[str, Any] = {
            "schema": SCHEMA,
            "config": self._numbers(),
            "step": state.step,
            "metrics_bytes": state.metrics_bytes,
        }
        about["sha256"] = _digest(about, tensors)
        metadata = {"handgrad": json.dumps(about)}  # one entry: safetensors orders several at random
        replace_file(self.path / "checkpoint.safetensors", to_safetensors(tensors, metadata))

    def load_checkpoint(self) -> State:
        """Read the last checkpoint.

        Raises:
            DamagedRunError: it is missing, cut short or changed.
            RunMismatchError: it belongs to a run with other options.
        """
        path = self.path / "checkpoint.safetensors"
        try:
            with safe_open(path, "np") as file:
                about = json.loads((file.metadata() or {})["handgrad"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            if about.pop("sha256") != _digest(about, tensors):
                raise ValueError("its checksum does not fit its content")
            step, metrics_bytes, numbers = about["step"], about["metrics_bytes"], about["config"]
            draws = tensors.pop("generator")
            losses = tensors.pop("losses").tolist()
            self._require_same(path, numbers)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedRunError(
                f"{path} is damaged ({error}): restore it from a copy, or start the run again in another folder"
            ) from None
        return State(step, self.config.model, tensors, draws, losses, metrics_bytes)

    def _require_same(self, path: Path, numbers: dict[str, Any]) -> None:
        for name, value in self._numbers().items():
            if numbers.get(name, value) != value:
                raise RunMismatchError(
                    f"{path} does not belong to this run: it was made with {name} {numbers[name]}, and "
                    f"{path.parent} has {value}; put back what was there, or start a new run"
                )

    @property
    def _words_content(self) -> bytes:
        return "".join(word + "\n" for word in self.words).encode()

    @cached_property
    def _words_digest(self) -> str:
        return hashlib.sha256(self._words_content).hexdigest()

    def _numbers(self) -> dict[str, Any]:
        """Return what decides the run's numbers: its words, and all options but the one that only checks them."""
        options = {name: value for name, value in self.config.to_dict().items() if name != "lock_step"}
        return options | {"words": self._words_digest}

    def cut_metrics(self, state: State) -> None:
        """Drop the lines that were written after the checkpoint of ``state``.

        Raises:
            DamagedRunError: the metrics are shorter than the checkpoint says.
        """
        path = self.path / "metrics.jsonl"
        size = path.stat().st_size if path.is_file() else -1
        if size < state.metrics_bytes:
            raise DamagedRunError(
                f"{path} was cut short: it has {max(size, 0)} bytes, and at the last checkpoint it had "
                f"{state.metrics_bytes}; restore it from a copy"
            )
        os.truncate(path, state.metrics_bytes)

    def metrics(self) -> list[dict[str, float]]:
        """Return the lines of ``metrics.jsonl`` up to the last checkpoint."""
        content = (self.path / "metrics.jsonl").read_bytes()[: self.load_checkpoint().metrics_bytes]
        return [json.loads(line) for line in content.decode().splitlines()]

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``."""
        self._write_json("result.json", result)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        replace_file(self.path / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def _description(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "config": self.config.to_dict(),
            "words": {"source": self.words_source, "sha256": self._words_digest},
            "versions": _versions(),
        }


def _versions() -> dict[str, str]:
    return {"handgrad": version("handgrad"), "torch": version("torch"), "python": platform.python_version()}


def _dataset(words: tuple[str, ...], config: Config) -> Dataset:
    return build_dataset(words, config.block_size, config.split)


def _digest(about: dict[str, Any], tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
