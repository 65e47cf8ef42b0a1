"""Statements that are more than an assignment: loops, writes in place, several results at once."""

from __future__ import annotations

from torch import Tensor

from random_forwards.writer import Writer


def split_up(w: Writer) -> None:
    """Write ``a, b = x.split(...)``."""
    x = w.operand(1)
    shape = w.shape(x)
    names = [f"part{len(w.body)}_{k}" for k in range(shape[0])]
    way = w.choose(
        [
            "{x}.unbind(0)",
            "{x}",
            "{x}.split(1)",
            "{x}.chunk({n})",
            "torch.tensor_split({x}, {n})",
            "{x}.split([1] * {n})",
        ]
    )
    if len(names) > 1 and w.statement(f"{', '.join(names)} = {way.format(x=x, n=len(names))}"):
        w.tensors += names[: w.integer(1, len(names))]


def in_place(w: Writer) -> None:
    """Write into a clone."""
    x = w.operand(1)
    name = f"buf{len(w.body)}"
    if not w.statement(f"{name} = {x}.clone()"):
        return
    for _ in range(w.integer(1, 2)):
        row = w.choose([
            "{n}[0] = 0.5", "{n}[0] = {n}[-1] * 2", "{n}[..., -1] += 1.0", "{n}[0] *= 2", "{n} *= 2", "{n} += {x}", "{n}.mul_(0.5)",
            "{n}[:, 0] = {x}[:, -1]", "{n}[1:] = {x}[:-1]", "{n} -= {n}.detach().mean()", "{n}[{x} > 0] = 0.0", "{n}.add_({x}, alpha=2)",
            "{n}.tanh_()", "{n}[:, 1] += {n}[:, 0]", "{n}[-1] -= {x}[0]", "{n}.clamp_(min=-0.4)", "{n}.index_add_(0, {i}, {x}[{i}])",
        ])  # fmt: skip
        w.statement(row.format(n=name, x=x, i=w.indices(2, w.shape(x)[0]) if "{i}" in row else ""))
    w.tensors.append(name)
    w.unread.add(name)


LOOPS = [
    # a recurrence over time
    "{h} = torch.zeros({B}, {H})\nfor t in range({T}):\n    {h} = torch.tanh({x}[:, t] @ {W} + {h} @ {U} + {b})",
    "{h} = {h0}\nfor t in range({T}):\n    {h} = torch.sigmoid({x}[:, t] @ {W} + {h} * {b})",
    "state = {h0}\nkept = []\nfor t in range({T}):\n    new = torch.tanh({x}[:, t] @ {W} + state @ {U})\n"
    "    state = 0.5 * state + 0.5 * new\n    kept.append(state)\n{h} = torch.stack(kept, 1)",
    "{h} = {h0}\nfor t in range({T}):\n    r = torch.sigmoid({x}[:, t] @ {W} + {h} @ {U})\n    {h} = r * {h} + (1 - r) * {b}",
    "{h} = 0.0\nfor t in range({T}):\n    {h} = {h} + ({x}[:, t] @ {W} - {b}).square().mean()",
    "{h} = 0\nfor t in range({T}):\n    {h} += ({x}[:, t] @ {W}).tanh().sum(1)",
    "{h} = {h0}\nfor k in range(3):\n    {h} = {h} + torch.tanh({h} @ {U} + {b})",
    "{h} = {h0}\nfor step in range(2):\n    {h} = F.gelu({h} @ {U}) + {h}",
    "{h} = torch.stack([({x}[:, t] @ {W}).sin() for t in range({T})]).mean(0)",
    "{h} = {h0}\nfor t in reversed(range({T})):\n    {h} = torch.logsumexp({h}.unsqueeze(-1) + {U}, 1) + {x}[:, t] @ {W}",
    "rows = []\nfor row in {h0}:\n    rows.append(torch.tanh(row @ {U}))\n{h} = torch.stack(rows)",
    "{h} = {h0}\nfor M in ({U}, {U}, {U}.T):\n    {h} = torch.tanh({h} @ M)",
    "{h} = {h0}\nfor t in range(1, {T}):\n    {h} = 0.9 * {h} + ({x}[:, t] - {x}[:, t - 1]) @ {W}",
    "{h}, cell = {h0}, {h0} * 0.5\nfor t in range({T}):\n    i, f = torch.sigmoid({x}[:, t] @ {W} + {h} @ {U}), torch.sigmoid({h} + {b})\n"
    "    cell = f * cell + i * {h}\n    {h} = torch.tanh(cell)",
]  # fmt: skip


def loop(w: Writer) -> None:
    """Write a small loop over time."""
    B, T, D, H = (w.integer(1, 4) for _ in range(4))
    text = str(w.choose(LOOPS))
    name = f"hidden{len(w.body)}"
    given = {"h": name, "B": str(B), "H": str(H), "T": str(T)}
    for key, shape, wish in (("x", (B, T, D), "xs"), ("W", (D, H), "Wx"), ("U", (H, H), "Wh"), ("b", (H,), "bh"),
                             ("h0", (B, H), "h0")):  # fmt: skip
        if f"{{{key}}}" in text:
            given[key] = w.new_input(*shape, wish=wish)
    if w.chance(50) and "{x}" in text and "n_steps" not in w.space and w.statement(f"n_steps = {given['x']}.shape[1]"):
        given["T"] = "n_steps"
    if w.statement(text.format(**given)) and isinstance(w.space[name], Tensor):
        w.tensors.append(name)
        w.unread.add(name)


def without_gradient(w: Writer) -> None:
    """Write a value that no gradient passes."""
    x, name = w.operand(1), f"fixed{len(w.body)}"
    if w.statement(f"with torch.no_grad():\n    {name} = {x}.mean() + 1"):
        w.assign(f"{x} * {name}")


STATEMENTS = {"loops": loop, "in place": in_place, "splits": split_up, "no_grad": without_gradient}
