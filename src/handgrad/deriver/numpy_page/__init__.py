"""The forward and the derived backward as one function of NumPy, which needs no PyTorch.

`forms` how NumPy says it, `functions` what it lacks, `translation` one to the other → `names`, `writer` the names of
the page → `forward_lines`, `backward_lines` its lines → `module` its text → `proving` executed and compared →
`generated_test` its test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handgrad.deriver.derivation import Backward
from handgrad.deriver.loops import NotALoopError
from handgrad.errors import NotVerifiedError

if TYPE_CHECKING:
    from handgrad.deriver.numpy_page.module import Module


def as_numpy(backward: Backward, name: str = "forward_backward") -> str:
    """Return a module of NumPy whose function ``name`` computes the result and the gradient of each argument.

    The function takes the tensors that the forward takes, in its order, index arrays included, those that it reads from
    outside, those that it draws at random, and ``dX`` for each result ``X`` that is no loss. It returns the result, or
    a tuple of results, and a dict of gradients by the names of the arguments. It has been executed in float64 and
    agrees with PyTorch and its autograd. Loops over time are loops.

    Raises:
        DeriveError: an operation has no form in NumPy; the message names it and its place.
        NotVerifiedError: the text computes something else.

    >>> import torch
    >>> from handgrad.deriver import derive
    >>> def forward(x, w):
    ...     h = torch.tanh(x @ w)
    ...     loss = h.sum()
    ...     return loss
    >>> print(as_numpy(derive(forward, torch.ones(2, 3), torch.ones(3, 4, requires_grad=True))))
    \"\"\"The forward and its derived backward, in NumPy.\"\"\"
    <BLANKLINE>
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    def forward_backward(x, w):
        \"\"\"Return the result, and the gradient of each argument by its name.\"\"\"
        h = np.tanh(x @ w)  # (2, 4)
        loss = h.sum()  # ()
    <BLANKLINE>
        # backward
        # loss = h.sum()
        dh = np.ones_like(h)  # (2, 4)
        # h = torch.tanh(x @ w)
        dw = x.T @ ((1.0 - h**2) * dh)  # (3, 4)
    <BLANKLINE>
        return loss, {"w": dw}
    <BLANKLINE>
    """
    return _proven(backward, name).source()


def numpy_test(backward: Backward, name: str = "forward_backward", *, module: str | None = None) -> str:
    """Return a test of what `as_numpy` returns, for pytest: on random numbers it agrees with PyTorch and its autograd.

    It stands below that text; with the name of a ``module`` it stands in a file of its own, and imports from it. The
    test has been run.

    Raises:
        DeriveError: as `as_numpy`.
        NotVerifiedError: as `as_numpy`, or the test does not pass.
    """
    from handgrad.deriver.numpy_page.generated_test import GeneratedTest, prove_test

    proven = _proven(backward, name)
    test = GeneratedTest(proven)
    prove_test(proven, test.text(None))
    return test.text(module)


def _proven(backward: Backward, name: str) -> Module:
    from handgrad.deriver.numpy_page.module import Module
    from handgrad.deriver.numpy_page.proving import prove

    try:
        module = Module(backward, name)
        prove(module)
    except (NotALoopError, NotVerifiedError):
        module = Module(backward.unrolled(), name)
        prove(module)
    return module
