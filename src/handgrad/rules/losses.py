"""Losses of numbers: regression, binary classes, divergences.

Each rule has the slope of one element's loss; `reduced` does the rest for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from handgrad.expr import Expr, broadcast, call, is_number, number, product, total, unsqueeze
from handgrad.rules.makers import Maker, away, boolean, fixed, normal, positive, tied, unit
from handgrad.rules.table import Sample, Terms, rule, sample, to

Shaped = Callable[..., Maker]

ONE, ZERO, TINY, SMALL = number(1.0), number(0.0), number(1e-8), number(1e-6)


def chances(*shape: int) -> Maker:
    """Return probabilities between 0.29 and 0.61 that want a gradient."""
    return lambda generator: (0.45 + 0.2 * unit(*shape)(generator).detach()).requires_grad_()


def signs(*shape: int) -> Maker:
    """Return 1 and -1, the targets of margin losses."""
    return lambda generator: away(*shape)(generator).detach().sign()


def reduced(slope: Expr, g: Expr, reduction: str, *inputs: Expr) -> Expr:
    """Return ``slope``, of one element's loss, times the gradient that the loss gets."""
    shape = broadcast(*(x.shape for x in inputs))
    if reduction == "mean":
        slope = slope / product(shape)
    elif reduction == "batchmean":
        slope = slope / product(inputs[0].shape[:1])
    return (slope * g).to(shape)


def reductions(function: str, options: str = "", *, x: Shaped = normal, t: Shaped = normal) -> list[Sample]:
    """Return samples of a loss with each reduction, and with a gradient that is not 1."""
    return [
        sample(f"{function}(x, t{options})", x=x(3, 5), t=t(3, 5)),
        sample(f"s * {function}(x, t{options})", x=x(7), t=t(7), s=()),
        sample(f"{function}(x, t{options}, reduction='sum')", x=x(4, 1, 3), t=t(4, 1, 3)),
        sample(f"{function}(x, t{options}, reduction='none')", x=x(3, 5), t=t(3, 5)),
    ]


@rule(
    "mse_loss",
    samples=[
        *reductions("F.mse_loss"),
        sample("F.mse_loss(x.mean(1), t)", x=(3, 5), t=fixed(3)),
        sample("F.mse_loss(x, t, weight=w)", x=(3, 5), t=(3, 5), w=positive(3, 5)),
        sample("F.mse_loss(x, t, weight=w, reduction='none')", x=(3, 5), t=(3, 5), w=positive(3, 5)),
    ],
)
def mse_loss(g: Expr, y: Expr, x: Expr, target: Expr, reduction: str = "mean", weight: Expr | None = None) -> Terms:
    slope = 2 * (x - target)
    if weight is None:
        slope = reduced(slope, g, reduction, x, target)
    else:
        whole = weight.method("sum", shape=())
        error = (x - target) ** 2
        slope = (slope * weight / whole if reduction == "mean" else slope * weight) * g
        share = (error - y) / whole if reduction == "mean" else error
        yield to(weight, share * g, "the loss is linear in the weights" + ", over their sum" * (reduction == "mean"))
    exact = None
    if weight is None and reduction == "mean":
        exact = number(2.0) / product(broadcast(x.shape, target.shape)) * (x - target) * g
    yield to(x, slope, "d(x - t)**2/dx = 2*(x - t)", exact=exact)
    yield to(target, -slope, "d(x - t)**2/dt = -2*(x - t)", exact=None if exact is None else -exact)


@rule("l1_loss", samples=[*reductions("F.l1_loss"), sample("F.l1_loss(x, t)", kink=True, x=tied(4, 7), t=tied(4, 7))])
def l1_loss(g: Expr, y: Expr, x: Expr, target: Expr, reduction: str = "mean") -> Terms:
    slope = reduced((x - target).pointwise("torch.sign"), g, reduction, x, target)
    yield to(x, slope, "d|x - t|/dx = sign(x - t)")
    yield to(target, -slope, "d|x - t|/dt = -sign(x - t)")


@rule(
    "smooth_l1_loss",
    samples=[
        *reductions("F.smooth_l1_loss"),
        *reductions("F.smooth_l1_loss", ", beta=0.3"),
        sample("F.smooth_l1_loss(x, t, beta=0.0)", x=(3, 5), t=(3, 5)),
        sample("F.smooth_l1_loss(x, t)", kink=True, x=tied(4, 7), t=tied(4, 7)),
    ],
)
def smooth_l1_loss(g: Expr, y: Expr, x: Expr, target: Expr, reduction: str = "mean", beta: Expr = ONE) -> Terms:
    error = x - target
    slope = error.pointwise("torch.sign") if is_number(beta, 0) else (error / beta).method("clamp", -1, 1)
    slope = reduced(slope, g, reduction, x, target)
    yield to(x, slope, "the error over beta, where it is small; its sign, where it is large")
    yield to(target, -slope, "the opposite of the gradient of x")


@rule(
    "huber_loss",
    samples=[
        *reductions("F.huber_loss"),
        *reductions("F.huber_loss", ", delta=0.3"),
        sample("F.huber_loss(x, t, weight=w)", x=(3, 5), t=(3, 5), w=positive(3, 5)),
        sample("F.huber_loss(x, t)", kink=True, x=tied(4, 7), t=tied(4, 7)),
    ],
)
def huber_loss(g: Expr, y: Expr, x: Expr, target: Expr, reduction: str = "mean", delta: Expr = ONE,
               weight: Expr | None = None) -> Terms:  # fmt: skip
    slope = (x - target).method("clamp", -delta, delta)
    if weight is not None:
        one = call("F.huber_loss", x, target, reduction="none", delta=delta, shape=x.shape)
        yield to(weight, reduced(one, g, reduction, x, target), "the loss is linear in the weights")
        slope = slope * weight
    slope = reduced(slope, g, reduction, x, target)
    yield to(x, slope, "the error, where it is small; delta with its sign, where it is large")
    yield to(target, -slope, "the opposite of the gradient of x")


@rule(
    "binary_cross_entropy",
    samples=[
        *reductions("F.binary_cross_entropy", x=chances, t=chances),
        sample("F.binary_cross_entropy(torch.sigmoid(x), t)", x=(3, 5), t=lambda g: boolean(3, 5)(g).double()),
        sample("F.binary_cross_entropy(x, t, weight=w)", x=chances(3, 5), t=chances(3, 5), w=fixed(5)),
    ],
)
def binary_cross_entropy(g: Expr, y: Expr, p: Expr, target: Expr, weight: Expr | None = None,
                         reduction: str = "mean") -> Terms:  # fmt: skip
    weighted = g if weight is None else weight * g
    slope = (p - target) / (p * (1.0 - p))
    yield to(p, reduced(slope, weighted, reduction, p, target), "d(-t*log(p) - (1-t)*log(1-p))/dp = (p - t)/(p*(1-p))")
    logit = (1.0 - p).pointwise("torch.log") - p.pointwise("torch.log")
    yield to(target, reduced(logit, weighted, reduction, p, target), "linear in the target: log(1-p) - log(p)")
    _no_gradient(weight, "F.binary_cross_entropy")


@rule(
    "binary_cross_entropy_with_logits",
    samples=[
        *reductions("F.binary_cross_entropy_with_logits", t=chances),
        sample("F.binary_cross_entropy_with_logits(x, t, weight=w)", x=(3, 5), t=chances(3, 5), w=fixed(5)),
        sample("F.binary_cross_entropy_with_logits(x, t, pos_weight=w)", x=(3, 5), t=chances(3, 5), w=fixed(5)),
        sample("F.binary_cross_entropy_with_logits(x, t, w, pos_weight=v, reduction='sum')", x=(3, 5),
               t=chances(3, 5), w=fixed(3, 5), v=fixed(5)),
    ],
)  # fmt: skip
def binary_cross_entropy_with_logits(g: Expr, y: Expr, x: Expr, target: Expr, weight: Expr | None = None,
                                     reduction: str = "mean", pos_weight: Expr | None = None) -> Terms:  # fmt: skip
    weighted = g if weight is None else weight * g
    p = x.pointwise("torch.sigmoid")
    if pos_weight is None:
        slope, why = p - target, "sigmoid and binary cross-entropy: the probability less the target"
        of_target = -x
    else:
        slope = p * (1.0 - target + pos_weight * target) - pos_weight * target
        why = "the probability less the target, where the target's part counts pos_weight times"
        of_target = (-x).pointwise("F.logsigmoid") - pos_weight * x.pointwise("F.logsigmoid")
    exact = slope * g / product(broadcast(x.shape, target.shape)) if weight is None and reduction == "mean" else None
    yield to(x, reduced(slope, weighted, reduction, x, target), why, exact=exact)
    yield to(target, reduced(of_target, weighted, reduction, x, target), "the loss is linear in the target")
    _no_gradient(weight, "F.binary_cross_entropy_with_logits")
    _no_gradient(pos_weight, "F.binary_cross_entropy_with_logits")


def _no_gradient(weight: Expr | None, function: str) -> None:
    if weight is not None and weight.data.requires_grad:
        raise NotImplementedError(f"the gradient of the weights of {function}: detach them, or write the loss out")


@rule(
    "kl_div",
    samples=[
        sample("F.kl_div(x, t, reduction='batchmean')", x=(3, 5), t=positive(3, 5)),
        sample("s * F.kl_div(x, t, reduction='sum')", x=(3, 5), t=positive(3, 5), s=()),
        sample("F.kl_div(x, t, reduction='none')", x=(3, 5), t=positive(3, 5)),
        sample("F.kl_div(F.log_softmax(x, 1), F.softmax(t, 1), reduction='batchmean')", x=(3, 5), t=(3, 5)),
        sample("F.kl_div(x, t, reduction='batchmean', log_target=True)", x=(4, 3, 5), t=(4, 3, 5)),
        sample("F.kl_div(x, t, reduction='none', log_target=True)", x=(3, 5), t=(5,)),
        sample("F.kl_div(x, t, reduction='sum')", x=(3, 5), t=positive(3, 1)),
    ],
)
def kl_div(g: Expr, y: Expr, logprobs: Expr, target: Expr, reduction: str = "mean", log_target: bool = False) -> Terms:
    weight = target.pointwise("torch.exp") if log_target else target
    log = target if log_target else target.pointwise("torch.log")
    of_target = weight * (log + 1.0 - logprobs) if log_target else log + 1.0 - logprobs
    yield to(logprobs, reduced(-weight, g, reduction, logprobs, target), "minus the target's probabilities")
    yield to(target, reduced(of_target, g, reduction, logprobs, target), "product rule for p*(log(p) - logprobs)")


@rule(
    "poisson_nll_loss",
    samples=[
        *reductions("F.poisson_nll_loss", t=positive),
        *reductions("F.poisson_nll_loss", ", log_input=False", x=positive, t=positive),
        sample("F.poisson_nll_loss(x, t, full=True)", x=(3, 5), t=positive(3, 5)),
    ],
)
def poisson_nll_loss(g: Expr, y: Expr, x: Expr, target: Expr, log_input: bool = True, full: bool = False,
                     eps: Expr = TINY, reduction: str = "mean") -> Terms:  # fmt: skip
    if log_input:
        slope, why = x.pointwise("torch.exp") - target, "exp(x) - t*x: exp(x) - t"
        of_target = -x
    else:
        slope, why = 1.0 - target / (x + eps), "x - t*log(x): 1 - t/x"
        of_target = -(x + eps).pointwise("torch.log")
    if full:  # Stirling's formula, where the target is above 1
        of_target = of_target + (target > 1) * (target.pointwise("torch.log") + 0.5 / target)
    yield to(x, reduced(slope, g, reduction, x, target), why)
    yield to(target, reduced(of_target, g, reduction, x, target), "the loss is linear in the target")


@rule(
    "gaussian_nll_loss",
    samples=[
        sample("F.gaussian_nll_loss(x, t, v)", x=(3, 5), t=(3, 5), v=positive(3, 5)),
        sample("s * F.gaussian_nll_loss(x, t, v)", x=(3, 5), t=(3, 5), v=positive(3, 1), s=()),
        sample("F.gaussian_nll_loss(x, t, v, reduction='sum')", x=(3, 5), t=(3, 5), v=positive(3)),
        sample("F.gaussian_nll_loss(x, t, v, full=True, reduction='none')", x=(3, 5), t=(3, 5), v=positive(3, 5)),
    ],
)
def gaussian_nll_loss(g: Expr, y: Expr, x: Expr, target: Expr, var: Expr, full: bool = False, eps: Expr = SMALL,
                      reduction: str = "mean") -> Terms:  # fmt: skip
    short = len(var.shape) == len(x.shape) - 1
    spread = unsqueeze(var, len(var.shape)) if short else var
    slope = reduced((x - target) / spread, g, reduction, x, target)
    yield to(x, slope, "d(0.5*(x - t)**2/var)/dx = (x - t)/var")
    yield to(target, -slope, "the opposite of the gradient of x")
    of_var = reduced(0.5 * (1.0 - (x - target) ** 2 / spread) / spread, g, reduction, x, target)
    if short:
        of_var = total(of_var, (len(x.shape) - 1,))
    yield to(var, of_var, "d(0.5*(log(var) + (x - t)**2/var))/dvar (var above eps)")


@rule(
    "soft_margin_loss",
    samples=reductions("F.soft_margin_loss", t=signs),
)
def soft_margin_loss(g: Expr, y: Expr, x: Expr, target: Expr, reduction: str = "mean") -> Terms:
    slope = -target * (-target * x).pointwise("torch.sigmoid")
    yield to(x, reduced(slope, g, reduction, x, target), "d(log(1 + exp(-t*x)))/dx = -t*sigmoid(-t*x)")


@rule(
    "hinge_embedding_loss",
    samples=[
        *reductions("F.hinge_embedding_loss", t=signs),
        sample("F.hinge_embedding_loss(x, t, margin=0.3)", x=(3, 5), t=signs(3, 5)),
        sample("F.hinge_embedding_loss(x, t)", kink=True, x=tied(4, 7), t=signs(4, 7)),
    ],
)
def hinge_embedding_loss(g: Expr, y: Expr, x: Expr, target: Expr, margin: Expr = ONE, reduction: str = "mean") -> Terms:
    active = target * ((target > 0) | (x <= margin))
    yield to(x, reduced(active, g, reduction, x, target), "the loss is x where the target is 1, the rest of the margin "
             "where it is -1")  # fmt: skip


@rule(
    "margin_ranking_loss",
    samples=[
        sample("F.margin_ranking_loss(a, b, t)", a=(3, 5), b=(3, 5), t=signs(3, 5)),
        sample("F.margin_ranking_loss(a, b, t, margin=0.5, reduction='none')", a=(3, 5), b=(3, 5), t=signs(3, 5)),
        sample("s * F.margin_ranking_loss(a, b, t, 0.3, reduction='sum')", a=(7,), b=(7,), t=signs(7), s=()),
        sample("F.margin_ranking_loss(a, b, t, margin=1)", kink=True, a=tied(4, 7), b=tied(4, 7), t=signs(4, 7)),
    ],
)
def margin_ranking_loss(g: Expr, y: Expr, a: Expr, b: Expr, target: Expr, margin: Expr = ZERO,
                        reduction: str = "mean") -> Terms:  # fmt: skip
    slope = reduced(-target * (target * (a - b) <= margin), g, reduction, a, b, target)
    yield to(a, slope, "only where the order is wrong, or right by less than the margin")
    yield to(b, -slope, "the opposite of the gradient of the first")
