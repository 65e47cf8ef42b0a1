"""Functions of one number, on scalars and vectors: exp, log, tanh and the like as polynomials in float32.

float64 calls the C library's, a lane at a time. `ULP` states the errors, which `tests/test_native_functions.py` holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir

from handgrad.native.llvm.builder import CONTRACT, I32, Builder

LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
# Taylor-like minimax coefficients of exp on [-ln2/2, ln2/2], highest first
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
WHOLE = 1.5 * 2**23  # floats of this size are whole numbers
# minimax: (2**x - 1) / x on [-1/2, 1/2], highest first
_EXP2M1 = (1.54035122e-4, 1.33907585e-3, 9.61823761e-3, 5.55035733e-2, 2.40226492e-1, 6.93147182e-1)

# minimax: erf(x) / x - 1 in x**2 for |x| < ERF_SPLIT, and -log(1 - erf(x)) in x from there to ERF_END; lowest first
ERF_SPLIT, ERF_END = 0.9, 3.95
_ERF_NEAR = (0.128379166765, -0.376126349819, 0.11283715053, -0.0268605092984, 0.00520386084617, -0.000817565565831,
             8.51316523044e-05)  # fmt: skip
_ERF_FAR = (-0.000150611825265, 1.12938179988, 0.633663337489, 0.107858179762, -0.0247744857482, 0.00399408752995,
            -0.000378845474028, 1.13106215032e-05, 7.37510266815e-07)  # fmt: skip

ULP = {  # how far from the truth a result may lie, in steps of float32 and of float64: everywhere, below normal too
    "exp": (1.5, 1), "log": (1, 1), "tanh": (4, 3), "sigmoid": (3, 3), "expm1": (5, 1.5), "log1p": (3, 1.5),
    "erf": (1.5, 1.5), "sqrt": (0.5, 0.5), "rsqrt": (1.5, 1.5), "sin": (1, 1), "cos": (1, 1), "pow": (1, 1),
}  # fmt: skip


class Functions:
    """The functions, written with a `Builder`."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder

    def _c(self, x: Any, number: float) -> Any:
        return self.b.constant(x.type, number)

    def _integers(self, x: Any) -> Any:
        return ir.VectorType(I32, x.type.count) if isinstance(x.type, ir.VectorType) else I32

    def _polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        total = self._c(x, coefficients[0])
        for c in coefficients[1:]:
            total = self.b.fma(total, x, self._c(x, c))
        return total

    def _library(self, name: str, x: Any) -> Any:
        return self.b.intrinsic(name, x)

    def _is_double(self, x: Any) -> bool:
        scalar = x.type.element if isinstance(x.type, ir.VectorType) else x.type
        return isinstance(scalar, ir.DoubleType)

    def exp(self, x: Any) -> Any:
        """Return e**x: 2**n times a polynomial of what is left; 0 and infinity where float32 ends, NaN of NaN."""
        if self._is_double(x):
            return self._library("exp", x)
        b = self.b.ir
        # two halves of the power, so that results below the smallest normal number are right too
        inside = self._clamped(x, -104.0, 89.0)
        n = self.b.intrinsic("rint", b.fmul(inside, self._c(x, LOG2_E)))
        r = self.b.fma(n, self._c(x, -LN2_HIGH), inside)
        r = self.b.fma(n, self._c(x, -LN2_LOW), r)
        p = self._polynomial(r, _EXP)
        p = self.b.fma(p, b.fmul(r, r), b.fadd(r, self._c(x, 1.0)))
        if self._has_scalef(x):
            return self._scaled(p, n)
        whole = b.fptosi(n, self._integers(x))
        half = b.ashr(whole, self.b.constant(whole.type, 1))
        return b.fmul(b.fmul(p, self._power_of_two(half, x)), self._power_of_two(b.sub(whole, half), x))

    def _has_scalef(self, x: Any) -> bool:
        """Whether the processor multiplies by a power of two at once: AVX-512 does."""
        return self.b.is_vector(x) and self.b.machine.item == 4 and x.type.count == 16

    def _scaled(self, x: Any, n: Any) -> Any:
        """Return x times 2**n, subnormal or infinite where float32 ends."""
        mask, nearest = ir.Constant(ir.IntType(16), -1), ir.Constant(I32, 4)  # all lanes; as everything is rounded
        return self.b.call("llvm.x86.avx512.mask.scalef.ps.512", x.type, [x, n, x, mask, nearest])

    def _power_of_two(self, n: Any, like: Any) -> Any:
        b = self.b.ir
        biased = b.add(n, self.b.constant(n.type, 127))
        return b.bitcast(b.shl(biased, self.b.constant(n.type, 23)), like.type)

    def _clamped(self, x: Any, low: float, high: float) -> Any:
        """Return x within bounds; NaN stays."""
        b = self.b.ir
        x = b.select(b.fcmp_ordered("<", x, self._c(x, low)), self._c(x, low), x)
        return b.select(b.fcmp_ordered(">", x, self._c(x, high)), self._c(x, high), x)

    def log(self, x: Any) -> Any:
        """Return the natural logarithm: exponent times ln 2, and a polynomial of the mantissa."""
        if self._is_double(x):
            return self._library("log", x)
        b, c = self.b.ir, self._c
        tiny = b.fcmp_ordered("<", x, c(x, 1.1754943508222875e-38))
        scaled = b.select(tiny, b.fmul(x, c(x, 8388608.0)), x)
        bits = b.bitcast(scaled, self._integers(x))

        def whole(number: int) -> Any:
            return self.b.constant(bits.type, number)

        exponent = b.sub(b.and_(b.lshr(bits, whole(23)), whole(255)), whole(126))
        exponent = b.sub(exponent, b.select(tiny, whole(23), whole(0)))
        m = b.bitcast(b.or_(b.and_(bits, whole(0x7FFFFF)), whole(0x3F000000)), x.type)
        low = b.fcmp_ordered("<", m, c(x, 0.707106781186547524))
        e = b.fsub(b.sitofp(exponent, x.type), b.select(low, c(x, 1.0), c(x, 0.0)))
        m = b.fsub(b.fadd(m, b.select(low, m, c(x, 0.0))), c(x, 1.0))
        z = b.fmul(m, m)
        y = b.fmul(b.fmul(m, z), self._polynomial(m, _LOG))
        y = self.b.fma(e, c(x, LN2_LOW), y)
        y = self.b.fma(z, c(x, -0.5), y)
        y = self.b.fma(e, c(x, LN2_HIGH), b.fadd(m, y))
        y = b.select(b.fcmp_unordered("<", x, c(x, 0.0)), c(x, float("nan")), y)
        y = b.select(b.fcmp_ordered("==", x, c(x, 0.0)), c(x, float("-inf")), y)
        return b.select(b.fcmp_ordered("==", x, c(x, float("inf"))), x, y)

    def tanh(self, x: Any) -> Any:
        """Return the hyperbolic tangent: ``-(e - 1) / (e + 1)`` for ``e = exp(-2|x|)``, with the sign of x."""
        if self._is_double(x):
            return self.each("tanh", x)
        b = self.b.ir
        t = b.fmul(self.b.intrinsic("fabs", x), self._c(x, -2 * LOG2_E))
        t = b.select(b.fcmp_ordered("<", t, self._c(x, -40.0)), self._c(x, -40.0), t)  # NaN stays
        f, power = self._rest_and_power(t)
        p = b.fmul(f, self._polynomial(f, _EXP2M1))
        below = self.b.fma(power, p, b.fsub(power, self._c(x, 1.0)))  # exp(-2|x|) - 1
        ratio = b.fdiv(below, b.fadd(below, self._c(x, 2.0)))
        return self.b.intrinsic("copysign", ratio, x)

    def _rest_and_power(self, t: Any) -> tuple[Any, Any]:
        """Return what of ``t`` is left of the nearest whole number n, and 2**n, for n of -126 to 127.

        A sum of `WHOLE` and t has n as its lowest bits.
        """
        b, kind = self.b.ir, self._integers(t)
        shifted = b.fadd(t, self._c(t, WHOLE))
        bits = b.shl(b.bitcast(shifted, kind), self.b.constant(kind, 23))
        power = b.bitcast(b.add(bits, self.b.constant(kind, 127 << 23)), t.type)
        return b.fsub(t, b.fsub(shifted, self._c(t, WHOLE))), power

    def sigmoid(self, x: Any) -> Any:
        """Return 1 / (1 + exp(-x)); below 0 as exp(x) / (1 + exp(x)), which keeps what is nearly 0."""
        b, one = self.b.ir, self._c(x, 1.0)
        small = self.exp(b.fneg(self.b.intrinsic("fabs", x)))
        above = b.select(b.fcmp_ordered("<", x, self._c(x, 0.0)), small, one)
        return b.fdiv(above, b.fadd(one, small))

    def rsqrt(self, x: Any) -> Any:
        """Return one over the square root."""
        return self.b.ir.fdiv(self._c(x, 1.0), self.b.intrinsic("sqrt", x))

    def log1p(self, x: Any) -> Any:
        """Return log(1 + x), exact for small x: log(u) * x / (u - 1) with u = 1 + x (Kahan)."""
        if self._is_double(x):
            return self.each("log1p", x)
        b, c = self.b.ir, self._c
        u = b.fadd(x, c(x, 1.0))
        d = b.fsub(u, c(x, 1.0))
        corrected = b.fmul(self.log(u), b.fdiv(x, d))
        same = b.fcmp_unordered("==", d, c(x, 0.0))
        infinite = b.fcmp_ordered("==", x, c(x, float("inf")))
        return b.select(same, x, b.select(infinite, x, corrected))

    def expm1(self, x: Any) -> Any:
        """Return exp(x) - 1: the polynomial alone near 0."""
        if self._is_double(x):
            return self.each("expm1", x)
        b = self.b.ir
        z = b.fmul(x, x)
        near = self.b.intrinsic("copysign", self.b.fma(self._polynomial(x, _EXP), z, x), x)
        far = b.fsub(self.exp(x), self._c(x, 1.0))
        return b.select(b.fcmp_ordered("<", self.b.intrinsic("fabs", x), self._c(x, 0.34)), near, far)

    def erf(self, x: Any) -> Any:
        """Return the error function: x times a polynomial near 0, and 1 - exp(-polynomial) beyond."""
        if self._is_double(x):
            return self.each("erf", x)
        b, c = self.b.ir, self._c
        size = self.b.intrinsic("fabs", x)
        near = self.b.fma(self._polynomial(b.fmul(x, x), _ERF_NEAR[::-1]), x, x)
        inside = b.select(b.fcmp_ordered(">", size, c(x, ERF_END)), c(x, ERF_END), size)
        far = b.fsub(c(x, 1.0), self.exp(b.fneg(self._polynomial(inside, _ERF_FAR[::-1]))))
        far = self.b.intrinsic("copysign", far, x)
        return b.select(b.fcmp_ordered("<", size, c(x, ERF_SPLIT)), near, far)

    def pow(self, x: Any, y: Any) -> Any:
        """Return x**y, as the C library does."""
        return self.b.intrinsic("pow", *self.b.alike(x, y))

    def sin(self, x: Any) -> Any:
        """Return the sine, as the C library does."""
        return self._library("sin", x)

    def cos(self, x: Any) -> Any:
        """Return the cosine, as the C library does."""
        return self._library("cos", x)

    def each(self, name: str, *args: Any) -> Any:
        """Call a function of the C library, on each lane."""
        kind = args[0].type
        scalar = kind.element if isinstance(kind, ir.VectorType) else kind
        name = name if isinstance(scalar, ir.DoubleType) else f"{name}f"
        if scalar is kind:
            return self.b.call(name, kind, args)
        found = ir.Constant(kind, ir.Undefined)
        for k in range(kind.count):
            place = ir.Constant(I32, k)
            one = self.b.call(name, scalar, [self.b.ir.extract_element(x, place) for x in args])
            found = self.b.ir.insert_element(found, one, place)
        return found


__all__ = ["CONTRACT", "ULP", "Functions"]
