"""A compiled step as plain data: what runs it needs neither torch nor what compiled it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]
Limit = tuple[int, int | None]  # indices are not negative and lie below the first, but for those that are the second


@dataclass(frozen=True)
class Place:
    """Where an array lies in the arena: byte offset, strides in elements, and elements with the padding."""

    name: str
    kind: str  # float or whole
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    size: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Plan:
    """Object code of a step, and where in its arena everything lies that is given or asked for."""

    item: int  # bytes of a number: 4 or 8
    arena: int  # bytes
    work: int  # about how many operations a step takes
    parameters: list[Place]
    batch: list[Place]
    states: list[Place]  # what the update keeps from step to step
    numbers: list[Place]  # what each step gets: the learning rate
    loss: Place
    gradients: list[Place]
    limits: list[Limit | None]  # for each array of the batch that holds indices
    constants: list[tuple[Place, Numbers]] = field(repr=False)
    code: bytes = field(repr=False)

    @property
    def real(self) -> Any:
        """The dtype of its numbers."""
        return np.float32 if self.item == 4 else np.float64

    def to_bytes(self) -> bytes:
        """Return the plan as the content of a safetensors file."""
        from safetensors.numpy import save

        tensors = {f"constant{k}": np.ascontiguousarray(numbers) for k, (_, numbers) in enumerate(self.constants)}
        about: dict[str, Any] = {name: [asdict(p) for p in getattr(self, name)] for name in _LISTS}
        about |= {"loss": asdict(self.loss), "constants": [asdict(place) for place, _ in self.constants]}
        about |= {"item": self.item, "arena": self.arena, "work": self.work, "limits": self.limits}
        tensors["code"] = np.frombuffer(self.code, np.uint8)
        return save(tensors, {"handgrad": json.dumps(about)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Plan:
        """Return the plan that `to_bytes` wrote; raises ValueError or KeyError if it did not."""
        from safetensors.numpy import load

        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["handgrad"])
        tensors = load(content)
        return cls(
            item=about["item"], arena=about["arena"], work=about["work"],
            limits=[None if limit is None else tuple(limit) for limit in about["limits"]],
            loss=_place(about["loss"]),
            constants=[(_place(p), tensors[f"constant{k}"]) for k, p in enumerate(about["constants"])],
            code=tensors["code"].tobytes(), **{name: [_place(p) for p in about[name]] for name in _LISTS},
        )  # fmt: skip


_LISTS = ("parameters", "batch", "states", "numbers", "gradients")


def _place(about: dict[str, Any]) -> Place:
    return Place(**(about | {"shape": tuple(about["shape"]), "strides": tuple(about["strides"])}))
