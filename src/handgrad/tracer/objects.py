"""Attributes and items of objects that are only stored, so that looking at them runs no code of the user's."""

from __future__ import annotations

from typing import Any

import torch

NOTHING = object()  # what is not there


def attribute_of(owner: Any, key: str) -> Any:
    """Return an attribute that is only stored, never one that is computed."""
    if isinstance(owner, torch.nn.Module):
        for table in (owner._parameters, owner._buffers, owner._modules):
            if key in table:
                return table[key]
    if isinstance(owner, tuple) and key in getattr(owner, "_fields", ()):
        return getattr(owner, key)
    slots = getattr(type(owner), "__slots__", ())
    if key in slots:
        return getattr(owner, key, NOTHING)
    return getattr(owner, "__dict__", {}).get(key, NOTHING)


def item_of(owner: Any, key: Any) -> Any:
    """Return an item of a dict, a list or a tuple."""
    if type(owner) is dict or isinstance(owner, dict):
        return dict.get(owner, key, NOTHING)
    if isinstance(owner, list | tuple) and isinstance(key, int) and -len(owner) <= key < len(owner):
        return owner[key]
    return NOTHING
