"""Reports to show: a notebook with one mistake of each sort, a script where all is right, one with hostile strings."""

from __future__ import annotations

import math

from handgrad.report import Finding, ForwardLine, Gradient, HeatMap, Pass, Report

FORWARD = """
emb = C[Xb]  # embed the characters into vectors | 32 3 10
embcat = emb.view(emb.shape[0], -1)  # concatenate the vectors | 32 30
hprebn = embcat @ W1 + b1  # hidden layer pre-activation | 32 64
bnmeani = 1/n*hprebn.sum(0, keepdim=True) | 1 64
bndiff = hprebn - bnmeani | 32 64
bndiff2 = bndiff**2 | 32 64
bnvar = 1/(n-1)*(bndiff2).sum(0, keepdim=True)  # note: Bessel's correction (dividing by n-1, not n) | 1 64
bnvar_inv = (bnvar + 1e05)**-0.5 | 1 64
bnraw = bndiff * bnvar_inv | 32 64
hpreact = bngain * bnraw + bnbias | 32 64
h = torch.tanh(hpreact)  # hidden layer | 32 64
logits = h @ W2 + b2  # output layer | 32 27
logit_maxes = logits.max(1, keepdim=True).values | 32 1
norm_logits = logits - logit_maxes  # subtract max for numerical stability | 32 27
counts = norm_logits.exp() | 32 27
counts_sum = counts.sum(1, keepdims=True) | 32 1
counts_sum_inv = counts_sum**-1 | 32 1
probs = counts * counts_sum_inv | 32 27
logprobs = probs.log() | 32 27
loss = -logprobs[range(n), Yb].mean() |
"""

BACKWARD = """
dlogprobs = torch.zeros_like(logprobs); dlogprobs[range(n), Yb] = -1.0/n | 32 27
dprobs = (1.0 / probs) * dlogprobs | 32 27
dcounts_sum_inv = counts * dprobs | 32 1
dcounts_sum = (-counts_sum**-2) * dcounts_sum_inv | 32 1
dcounts = counts_sum_inv * dprobs; dcounts += torch.ones_like(counts) * dcounts_sum | 32 27
dnorm_logits = counts * dcounts | 32 27
dlogits = dnorm_logits.clone() | 32 27
dlogit_maxes = (-dnorm_logits).sum(1, keepdim=True) | 32 1
dh = dlogits @ W2.T | 32 64
dW2 = h.T @ dlogits | 64 27
db2 = dlogits.sum(0) | 27
dhpreact = (1.0 - h**2) * dh | 32 64
dbngain = (bnraw * dhpreact).sum(0) | 1 64
dbnraw = bngain * dhpreact | 32 64
dbnbias = dhpreact.sum(0, keepdim=True) | 1 64
dbnvar_inv = (bndiff * dbnraw).sum(0, keepdim=True) | 1 64
dbnvar = (-0.5*(bnvar + 1e-5)**-1.5) * dbnvar_inv | 1 64
"""

MISSING = {"dbndiff2": (32, 64), "dbndiff": (32, 64), "dbnmeani": (1, 64), "dhprebn": (32, 64), "dembcat": (32, 30)}


def _rows(table: str) -> list[tuple[str, tuple[int, ...]]]:
    rows = [line.rsplit("|", 1) for line in table.strip().splitlines()]
    return [(code.strip(), tuple(map(int, shape.split()))) for code, shape in rows]


def heat(rows: int, columns: int, largest: float = 0.4619) -> HeatMap:
    """Return a map with a hot diagonal, cold corners and one row without a difference."""
    tiles = [
        [0.0 if i == 5 else largest * math.exp(-(((i / rows - j / columns) * 3) ** 2)) for j in range(columns)]
        for i in range(rows)
    ]
    return HeatMap((rows, columns), tuple(map(tuple, tiles)))


FINDINGS = {
    "dcounts_sum_inv": Finding(
        "HG201",
        "missing-sum",
        10,
        7,
        "counts_sum_inv has shape (32, 1) and was broadcast to (32, 27) in `probs = counts * counts_sum_inv`, so its "
        "gradient sums over dimension 1. Your line has the numbers before that sum, shape (32, 27).",
        "dcounts_sum_inv = (counts * dprobs).sum(1, keepdim=True)",
    ),
    "dlogits": Finding(
        "HG207",
        "missing-branch",
        10,
        11,
        "logits is read twice, in norm_logits and in logit_maxes. The branch through logit_maxes is missing.",
        "dlogits = dnorm_logits.clone()\ndlogits += F.one_hot(logits.max(1).indices, logits.shape[1]) * dlogit_maxes",
    ),
    "dbngain": Finding(
        "HG202", "shape", 10, 17, "dbngain has shape (64,) and bngain has (1, 64): `keepdim=True` keeps the dimension."
    ),
}


def notebook() -> Report:
    """Return a report with all verdicts, as a notebook on the subject gives it."""
    forward = tuple(ForwardLine(c.split(" = ")[0], 8, i, c, s) for i, (c, s) in enumerate(_rows(FORWARD), 2))
    gradients = []
    for line, (code, shape) in enumerate(_rows(BACKWARD), 5):
        name, code = code.split(" = ")[0], code.replace("; ", "\n")
        place = {"name": name, "of": name[1:], "cell": 10, "line": line, "code": code, "expected_shape": shape}
        right = {"shape": shape, "exact": True, "approximate": True, "maxdiff": 0.0, "bits": "exact", "error": 1.8e-9}
        near = right | {"exact": False, "maxdiff": 1.8626e-09, "bits": "rounding", "error": 3.1e-9}
        wrong = {"shape": shape, "maxdiff": 0.46194, "error": 0.46194, "difference": heat(32, 27)}
        wrong |= {"mistakes": (FINDINGS[name],)} if name in FINDINGS else {}
        numbers = {
            "dcounts_sum_inv": ("wrong", wrong | {"shape": (32, 27)}),
            "dcounts_sum": ("inherited", {"shape": shape, "maxdiff": 0.0071, "error": 0.0071}),
            "dcounts": ("inherited", {"shape": shape, "maxdiff": 0.0092, "error": 0.0092, "difference": heat(32, 27)}),
            "dlogits": ("wrong", wrong | {"maxdiff": 7e-09, "error": 7e-09, "approximate": True}),
            "dhpreact": ("right", near),
            "dbngain": ("wrong", wrong | {"shape": (64,), "maxdiff": 0.0, "difference": heat(1, 64, 0.002)}),
            "dbnvar": ("unverified", {"shape": shape, "note": "bnvar_inv is a constant here: nothing reaches bnvar."}),
        }
        verdict, facts = numbers.get(name, ("right", right))
        gradients.append(Gradient(verdict=verdict, autograd_error=1.8e-09, **place, **facts))  # type: ignore[arg-type]
    gradients += [Gradient(n, n[1:], "missing", expected_shape=s) for n, s in MISSING.items()]
    message = "1e05 is 100000, and bnvar is about 1: the sum hides the variance. Did you mean 1e-5?"
    return Report(
        (Pass(forward, tuple(gradients)),),
        file="makemore_part4_backprop.ipynb",
        torch="2.13.0",
        loss_name="loss",
        loss_value=3.3221,
        warnings=(
            Finding("HG601", "epsilon-dominates", 8, 9, message, "bnvar_inv = (bnvar + 1e-5)**-0.5"),
            Finding("HG605", "split-overlap", None, None, "1,204 words of the dev split are also in the train split."),
        ),
        notes=("cell 0: `%matplotlib inline` not run", "cell 14: left after 10 of 200000 iterations"),
    )


def right() -> Report:
    """Return a report of a script in which everything is right."""
    forward = tuple(ForwardLine(c.split(" = ")[0], None, i, c, s) for i, (c, s) in enumerate(_rows(FORWARD), 2))
    corrected = BACKWARD.replace("= counts * dprobs", "= (counts * dprobs).sum(1, keepdim=True)")
    gradients = [
        Gradient(
            c.split(" = ")[0],
            c.split(" = ")[0][1:],
            "right",
            None,
            line,
            c.replace("; ", "\n"),
            s,
            s,
            exact=line != 41,
            approximate=True,
            maxdiff=0.0 if line != 41 else 1.9e-9,
            bits="exact" if line != 41 else "rounding",
            error=3e-9,
            autograd_error=2e-9,
        )
        for line, (c, s) in enumerate(
            _rows(corrected.replace("dhpreact).sum(0) ", "dhpreact).sum(0, keepdim=True) ")), 30
        )
    ]
    return Report((Pass(forward, tuple(gradients)),), "train.py", "2.13.0", "loss", 3.3221)


NASTY = "<script>alert(1)</script> [bold]x[/bold] [/] ]]> % ::error:: a,b:c \"q\" 'p' & é λ 🔥 \x1b[31m\x00 {{ 7*7 }}"


def hostile() -> Report:
    """Return a report whose every string tries to be something else, and whose numbers are no numbers."""
    nan, inf = math.nan, math.inf
    finding = Finding("HG299", "unknown", 0, 1, f"message {NASTY}\nsecond line", f"fix {NASTY}\r\nnext")
    tiles = HeatMap((2, 2), ((nan, inf), (0.0, 1.0)))
    forward = ForwardLine(f"f{NASTY}", 0, 1, f"code {NASTY}", ())
    wrong = Gradient(
        f"d{NASTY}", f"f{NASTY}", "wrong", 0, 1, f"code {NASTY}", (2, 2), (), maxdiff=nan, error=inf,
        autograd_error=-inf, mistakes=(finding, finding), note=f"note {NASTY}", difference=tiles,
    )  # fmt: skip
    missing = Gradient(f"m{NASTY}", "nobody", "missing")
    backward = Pass((forward, forward), (wrong, missing))
    return Report((backward, Pass((), ())), NASTY, NASTY, NASTY, nan, (finding,), (NASTY, f"two\n{NASTY}"))
