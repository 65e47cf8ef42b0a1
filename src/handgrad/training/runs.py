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
import hashlib
import itertools
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from handgrad.data import Dataset, build_dataset
from handgrad.errors import (
    DamagedRunError,
    InvalidOptionError,
    RunBusyError,
    RunExistsError,
    RunMismatchError,
    RunNotFoundError,
    RunNotWritableError,
)
from handgrad.models import MODELS, Model
from handgrad.training.config import Config

SCHEMA = "handgrad.run/1"


@dataclass
class State:
    """Where a run stands after ``step`` steps."""

    step: int
    parameters: Any  # a NamedTuple of tensors
    generator: torch.Generator
    losses: list[float]  # of the steps since the last line of metrics.jsonl
    metrics_bytes: int  # the length of metrics.jsonl


@dataclass(frozen=True)
class Run:
    """A run folder, its options and its words."""

    path: Path
    config: Config
    words: tuple[str, ...]
    words_source: str

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
        generator = torch.Generator().manual_seed(config.seed)
        parameters = _initialise(_dataset(words, config), config, generator)
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
            _replace(staging / "words.txt", "".join(word + "\n" for word in words).encode())
            _replace(staging / "metrics.jsonl", b"")
            run.save_checkpoint(State(0, parameters, generator, [], 0))
            while True:
                try:
                    staging.rename(target)  # replaces an empty folder, and no other
                    break
                except OSError:
                    if path:
                        raise RunExistsError(
                            f"{target} already holds something: choose another folder with --out, "
                            f"or go on with that run: handgrad train --resume {target}"
                        ) from None
                    target = next(candidates)
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
            raise RunNotFoundError(f"{path} is no run folder ({hint}): start a run with `handgrad train --out {path}`")
        try:
            description = json.loads((path / "config.json").read_text(encoding="utf-8"))
            config = Config(**{f.name: description["config"][f.name] for f in fields(Config)})
            source, digest = description["words"]["source"], description["words"]["sha256"]
        except (ValueError, KeyError, TypeError, InvalidOptionError) as error:
            raise DamagedRunError(f"{path / 'config.json'} is damaged ({error}): restore it from a copy") from None
        try:
            content = (path / "words.txt").read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedRunError(
                f"{path / 'words.txt'} is not the word list that the run was started with: restore it from a copy"
            )
        return cls(path, config, tuple(content.decode().split("\n")[:-1]), source)

    @property
    def model(self) -> Model:
        """The model that the run trains."""
        return MODELS[self.config.model]

    def dataset(self) -> Dataset:
        """Return the run's words as contexts, split as its options say."""
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
        tensors = {name: tensor.contiguous() for name, tensor in state.parameters._asdict().items()}
        tensors["generator"] = state.generator.get_state()
        tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
        about: dict[str, Any] = {"schema": SCHEMA, "step": state.step, "metrics_bytes": state.metrics_bytes}
        about["sha256"] = _digest(about, tensors)
        metadata = {"handgrad": json.dumps(about)}  # one entry: safetensors orders several at random
        _replace(self.path / "checkpoint.safetensors", to_safetensors(tensors, metadata))

    def load_checkpoint(self) -> State:
        """Read the last checkpoint.

        Raises:
            DamagedRunError: it is missing, cut short or changed.
            RunMismatchError: it belongs to a run with other options.
        """
        path = self.path / "checkpoint.safetensors"
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["handgrad"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            if about.pop("sha256") != _digest(about, tensors):
                raise ValueError("its checksum does not fit its content")
            step, metrics_bytes = about["step"], about["metrics_bytes"]
            generator = torch.Generator()
            generator.set_state(tensors.pop("generator"))
            losses = tensors.pop("losses").tolist()
            parameters = self.model.parameters(**tensors)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedRunError(
                f"{path} is damaged ({error}): restore it from a copy, or start the run again in another folder"
            ) from None
        self._check_shapes(path, parameters)
        return State(step, parameters, generator, losses, metrics_bytes)

    def _check_shapes(self, path: Path, parameters: Any) -> None:
        expected = _initialise(self.dataset(), self.config, torch.Generator())
        for name, tensor in expected._asdict().items():
            found = getattr(parameters, name)
            if found.shape != tensor.shape or found.dtype != tensor.dtype:
                raise RunMismatchError(
                    f"{path} does not belong to this run: {name} has shape {tuple(found.shape)} there, "
                    f"and the options in config.json make it {tuple(tensor.shape)}; restore the run's own checkpoint"
                )

    def cut_metrics(self, state: State) -> None:
        """Drop the lines that were written after the checkpoint of ``state``.

        Raises:
            DamagedRunError: the metrics are shorter than the checkpoint says.
        """
        path = self.path / "metrics.jsonl"
        size = path.stat().st_size if path.is_file() else 0
        if size < state.metrics_bytes:
            raise DamagedRunError(
                f"{path} was cut short: it has {size} bytes, and at the last checkpoint it had {state.metrics_bytes}; "
                "restore it from a copy"
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
        _replace(self.path / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def _description(self) -> dict[str, Any]:
        content = "".join(word + "\n" for word in self.words).encode()
        return {
            "schema": SCHEMA,
            "config": self.config.to_dict(),
            "words": {"source": self.words_source, "sha256": hashlib.sha256(content).hexdigest()},
            "versions": {
                "handgrad": version("handgrad"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


def _dataset(words: tuple[str, ...], config: Config) -> Dataset:
    return build_dataset(words, config.block_size, config.split)


def _initialise(dataset: Dataset, config: Config, generator: torch.Generator) -> Any:
    return MODELS[config.model].initialise(
        len(dataset.vocabulary), config.block_size, config.n_embd, config.n_hidden, generator=generator
    )


def _digest(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name].numpy()).tobytes())
    return digest.hexdigest()


def not_writable(path: Path, error: OSError) -> RunNotWritableError:
    """Return the error to raise when writing ``path`` failed."""
    return RunNotWritableError(f"{path} cannot be written ({error.strerror}): free some space, or check permissions")


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, also when the machine stops in between."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise not_writable(path, error) from None
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
