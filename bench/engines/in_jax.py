"""Engines in JAX: `jit` of a step, and `jit` of a `lax.scan` over many. Both models written as JAX users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engines.cases import LR, VOCAB, Case, Numbers

Take = Callable[[Numbers], float]
Embed = Callable[[Any, Any], Any]


def _by_index(C: Any, Xb: Any) -> Any:
    return C[Xb]


def _by_product(C: Any, Xb: Any) -> Any:
    return jax.nn.one_hot(Xb, VOCAB, dtype=C.dtype) @ C


def _cross_entropy(logits: Any, Yb: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), Yb[:, None], 1)
    return -chosen.mean()


def _mlp(embed: Embed, p: dict[str, Any], Xb: Any, Yb: Any) -> Any:
    hprebn = embed(p["C"], Xb).reshape(len(Xb), -1) @ p["W1"] + p["b1"]
    raw = (hprebn - hprebn.mean(0)) * (hprebn.var(0, ddof=1) + 1e-5) ** -0.5
    h = jnp.tanh(p["bngain"] * raw + p["bnbias"])
    return _cross_entropy(h @ p["W2"] + p["b2"], Yb)


def _norm(x: Any, gain: Any, bias: Any) -> Any:
    return gain * (x - x.mean(-1, keepdims=True)) * (x.var(-1, keepdims=True) + 1e-5) ** -0.5 + bias


def _transformer(embed: Embed, p: dict[str, Any], Xb: Any, Yb: Any) -> Any:
    n, T = Xb.shape
    A, _, D = p["bq"].shape
    x = embed(p["C"], Xb) + p["P"]
    a = _norm(x, p["gain1"], p["bias1"])
    q, k, v = ((a @ p[f"W{c}"]).reshape(n, T, A, D).transpose(0, 2, 1, 3) + p[f"b{c}"] for c in "qkv")
    scores = jnp.where(jnp.tri(T, dtype=bool), D**-0.5 * (q @ k.transpose(0, 1, 3, 2)), -jnp.inf)
    y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(n, T, A * D)
    x = x + y @ p["Wo"] + p["bo"]
    m = _norm(x, p["gain2"], p["bias2"])
    x = x + jax.nn.gelu(m @ p["W1"] + p["b1"], approximate=False) @ p["W2"] + p["b2"]
    return _cross_entropy(_norm(x[:, -1], p["gain3"], p["bias3"]) @ p["W3"] + p["b3"], Yb)


FORWARD = {"mlp": _mlp, "transformer": _transformer}


def _step(case: Case, embed: Embed) -> Callable[..., Any]:
    forward = FORWARD[case.model]

    def step(p: dict[str, Any], data: tuple[Any, Any], ix: Any) -> tuple[dict[str, Any], Any]:
        X, Y = data
        loss, gradients = jax.value_and_grad(lambda q: forward(embed, q, X[ix], Y[ix]))(p)
        return {name: p[name] - LR * gradients[name] for name in p}, loss

    return step


def _given(case: Case) -> tuple[dict[str, Any], tuple[Any, Any]]:
    X, Y = case.data()
    data = jnp.asarray(X.astype(np.int32)), jnp.asarray(Y.astype(np.int32))
    return {name: jnp.asarray(x) for name, x in case.start().items()}, data


def _jit(case: Case, embed: Embed) -> Take:
    p, data = _given(case)
    step = jax.jit(_step(case, embed), donate_argnums=0)

    def take(rows: Numbers) -> float:
        nonlocal p
        for ix in rows.astype(np.int32):
            p, loss = step(p, data, ix)
        return float(loss)

    return take


def _scan(case: Case, embed: Embed) -> Take:
    p, data = _given(case)
    step = _step(case, embed)

    def steps(p: dict[str, Any], data: tuple[Any, Any], rows: Any) -> tuple[dict[str, Any], Any]:
        return jax.lax.scan(lambda q, ix: step(q, data, ix), p, rows)

    compiled = jax.jit(steps, donate_argnums=0)

    def take(rows: Numbers) -> float:
        nonlocal p
        p, losses = compiled(p, data, rows.astype(np.int32))
        return float(losses[-1])

    return take


def jit(case: Case) -> Take:
    """Return a step under `jax.jit`, its parameters donated; the loop over steps is Python's."""
    return _jit(case, _by_index)


def scan(case: Case) -> Take:
    """Return many steps under one `jax.jit`, by `lax.scan`."""
    return _scan(case, _by_index)


def scan_one_hot(case: Case) -> Take:
    """Return the same with the embedding as a product with one-hot rows."""
    return _scan(case, _by_product)
