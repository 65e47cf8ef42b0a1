"""Operations without a gradient: they are constant almost everywhere, or stop it on purpose."""

from __future__ import annotations

from handgrad.rules.table import constant

constant("the gradient stops there on purpose", "detach", "data", "stop_gradient")
constant(
    "it is constant between jumps",
    "sign", "sgn", "floor", "ceil", "round", "trunc", "fix", "heaviside", "floordiv", "floor_divide", "signbit",
)  # fmt: skip
constant(
    "its result is an index or a truth value",
    "argmax", "argmin", "argsort", "eq", "ne", "gt", "ge", "lt", "le", "isnan", "isinf", "isfinite", "isclose",
    "nonzero", "one_hot", "bincount", "unique", "searchsorted", "bucketize", "logical_and", "logical_or",
    "logical_not", "logical_xor", "any", "all", "count_nonzero", "long", "int", "bool", "and", "or", "xor", "invert",
)  # fmt: skip
constant(
    "it does not depend on the numbers of its input",
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_tensor", "new_empty", "bernoulli", "multinomial", "zero", "normal", "uniform",
)  # fmt: skip
