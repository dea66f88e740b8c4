"""A calculator: exact fractions as far as they go, and no way to make it work for long."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from fractions import Fraction

from posttrain.types import ToolError

Number = Fraction | float
MAX_BITS = 4096
"""Of a numerator or denominator: about 1,200 digits."""
_SIGNS = {"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_UNARY = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "sin": math.sin, "cos": math.cos, "tan": math.tan, "abs": abs, "round": round,
    "floor": math.floor, "ceil": math.ceil, "min": min, "max": max, "gcd": lambda *x: math.gcd(*map(_whole, x)), "factorial": lambda n: _factorial(n),
}  # fmt: skip
_NAMES = {"pi": math.pi, "e": math.e}


async def calculator(expression: str) -> str:
    """Work out an expression such as 12*(3+4)/5. Knows + - * / // % ** and sqrt, log, exp, sin, cos, tan, abs, round, floor, ceil, min, max, gcd, factorial."""
    return _spelled(evaluate(expression))


def evaluate(expression: str) -> Number:
    """The value of an expression: a fraction where it is one, else a float. Raises ToolError for whatever has none."""
    for sign, plain in _SIGNS.items():
        expression = expression.replace(sign, plain)
    try:
        return _value(ast.parse(expression.strip().removesuffix("="), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ToolError(f"{expression!r} is no expression that can be worked out") from None
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ToolError(f"{expression!r} has no value: {error}") from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes()):
            pass
        case ast.Constant(value=int() | float() as value) if math.isfinite(value):
            return _bounded(Fraction(str(value)))
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _bounded(_power(_value(left), _value(right)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            found = _FUNCTIONS[name](*map(_value, arguments))
            return _bounded(Fraction(found) if isinstance(found, int) else found)
    raise ToolError(f"{ast.unparse(node)[:80]!r} cannot be worked out: write numbers, + - * / // % ** and functions such as sqrt")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, float) or isinstance(exponent, float) or exponent.denominator != 1:
        found = float(base) ** float(exponent)
        if isinstance(found, complex):
            raise ValueError("a root of a negative number")
        return found
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS:
        raise ToolError(f"{base} ** {exponent} has too many digits")
    return base ** int(exponent)


def _factorial(n: Number) -> int:
    if n > 400:
        raise ToolError(f"factorial({n}) has too many digits")
    return math.factorial(_whole(n))


def _whole(n: Number) -> int:
    if n != int(n):
        raise ValueError(f"{n} is not a whole number")
    return int(n)


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ToolError("the number has too many digits")
    return value


def _spelled(value: Number) -> str:
    """A whole number, a decimal where one is exact, else the nearest float."""
    if isinstance(value, float) or value.denominator == 1:
        return repr(value) if isinstance(value, float) else str(value.numerator)
    twos, rest = 0, value.denominator
    while rest % 2 == 0:
        twos, rest = twos + 1, rest // 2
    fives = 0
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    places = max(twos, fives)
    if rest != 1 or places > 15:
        return repr(float(value))
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"
