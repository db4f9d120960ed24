"""Small mistakes, made by machine: every function's syntax tree, changed in one place at a time.

A mutant is a change of one operator, constant, index, argument, name or statement, as a slip of the pen would make it. What
only refuses illegal input is left alone. A mutant's key is "function: statement as it was -> as it is"; no line is in it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Mutant(NamedTuple):
    """A file's text with one change in it, and the change in words."""

    key: str
    text: str


OPERATORS = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult,), ast.MatMult: (ast.Mult,),
    ast.FloorDiv: (ast.Mult, ast.Div, ast.Mod), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq, ast.GtE), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
NAMES = {
    "max": ("min", "sum"), "min": ("max",), "sum": ("mean", "max"), "mean": ("sum",), "prod": ("sum",), "maximum": ("minimum",),
    "minimum": ("maximum",), "argmax": ("argmin",), "argmin": ("argmax",), "zeros": ("ones",), "zeros_like": ("ones_like",),
    "ones": ("zeros",), "empty": ("ones",), "all": ("any",), "any": ("all",), "sin": ("cos",), "cos": ("sin",),
    "floor": ("ceil",),
    "argsort": ("sort",), "exp": ("abs",), "log": ("log2",), "sqrt": ("abs",), "standard_normal": ("random",),
}  # fmt: skip


def mutants(text: str, functions: tuple[str, ...]) -> Iterator[Mutant]:
    """Every mutant of these functions of a file, no two alike."""
    tree = ast.parse(text)
    seen: dict[str, int] = {}
    texts: set[str] = set()
    lines = text.splitlines()
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or function.name not in functions:
            continue
        before, after = lines[: function.lineno - 1], lines[function.end_lineno :]
        for was, now, changed in changes(function):
            text = ast.unparse(changed)
            if was == now or text in texts:
                continue
            texts.add(text)
            key = f"{function.name}: {was} -> {now}"
            seen[key] = seen.get(key, 0) + 1
            if seen[key] > 1:  # the same slip in two places
                key += f" ({seen[key]})"
            yield Mutant(key, "\n".join([*before, text, *after]) + "\n")


def changes(function: ast.FunctionDef) -> Iterator[tuple[str, str, ast.FunctionDef]]:
    """The function with each change, and the statement that it is in, before and after."""
    places = [(s, n) for s in statements(function) for n in parts(s)]
    for number, (_, node) in enumerate(places):
        for which in range(len(list(variants(node)))):
            changed = copy.deepcopy(function)
            statement, twin = [(s, n) for s in statements(changed) for n in parts(s)][number]
            was = head(statement)
            new = list(variants(twin))[which]
            if isinstance(node, ast.stmt):
                replace(changed, twin, new)
                now = " ; ".join(map(head, new)) if new else "(nothing)"
            else:
                replace(statement, twin, [new])
                now = head(statement)
            yield was, now, ast.fix_missing_locations(changed)


def statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """All statements of a function but its docstring and those of functions within."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    for statement in body:
        refused = {n for s in ast.walk(statement) if refuses(s) for n in ast.walk(s)}
        yield from (n for n in ast.walk(statement) if isinstance(n, ast.stmt) and n not in refused)


def refuses(node: ast.AST) -> bool:
    """Whether it only refuses what is not legal: no legal input can tell whether it does."""
    return isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise) and not node.orelse


def parts(statement: ast.stmt) -> Iterator[ast.AST]:
    """The statement itself, and what is in it but not in a statement within it."""
    yield statement
    for name, value in ast.iter_fields(statement):
        if name in ("body", "orelse", "finalbody", "annotation", "returns", "handlers"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.arguments):
                yield from (
                    n for n in ast.walk(child) if not isinstance(n, (ast.expr_context, ast.operator, ast.cmpop))
                )


def replace(root: ast.AST, old: ast.AST, new: list) -> None:
    """Put nodes in the place of one."""
    for node in ast.walk(root):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new[0])
                return
            if isinstance(value, list) and any(v is old for v in value):
                at = next(i for i, v in enumerate(value) if v is old)
                value[at : at + 1] = new or ([ast.Pass()] if isinstance(old, ast.stmt) else [])
                return


def head(node: ast.AST) -> str:
    """A statement's first line."""
    return ast.unparse(ast.fix_missing_locations(node)).splitlines()[0]


def variants(node: ast.AST) -> Iterator:
    """What may stand in a node's place: other expressions, or lists of statements."""
    if isinstance(node, ast.stmt):
        yield from of_statement(node)
    elif isinstance(node, ast.Slice):
        yield from of_slice(node)
    elif isinstance(node, ast.expr):
        yield from of_expression(node)


def of_statement(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For)):
        yield []
    if isinstance(node, ast.AugAssign):
        target = node.target
        yield [ast.Assign([target], node.value)]
        for other in OPERATORS.get(type(node.op), ()):
            yield [ast.AugAssign(target, other(), node.value)]
        if isinstance(target, ast.Name):  # no longer in place
            yield [ast.Assign([target], ast.BinOp(ast.Name(target.id, ast.Load()), node.op, node.value))]
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        (target,) = node.targets
        if isinstance(target, ast.Subscript):
            yield [ast.AugAssign(target, ast.Add(), node.value)]
        if isinstance(target, ast.Tuple) and not any(isinstance(t, ast.Tuple) for t in target.elts):
            for swapped in neighbours(target.elts):
                yield [ast.Assign([ast.Tuple(swapped, ast.Store())], node.value)]
        value = node.value
        if isinstance(target, ast.Name) and isinstance(value, ast.BinOp) and getattr(value.left, "id", "") == target.id:
            yield [ast.AugAssign(target, value.op, value.right)]  # in place
    if isinstance(node, ast.If):
        yield node.body
        if node.orelse:
            yield node.orelse
        yield [ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)]
    if isinstance(node, ast.For):
        for some in ("[1:]", "[:-1]"):
            within = ast.parse(f"list(rounds){some}", mode="eval").body
            replace(within, within.value.args[0], [node.iter])  # type: ignore[attr-defined]
            yield [ast.For(node.target, within, node.body, [], lineno=node.lineno)]


def of_expression(node: ast.expr) -> Iterator[ast.expr]:
    kind = type(node)
    if isinstance(node, ast.BinOp):
        for op in OPERATORS.get(type(node.op), ()):
            yield ast.BinOp(node.left, op(), node.right)
        yield node.left
        if not isinstance(node.op, (ast.Pow, ast.FloorDiv, ast.Mod)):
            yield node.right
        if isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.MatMult)):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in COMPARISONS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [op()], node.comparators)
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISONS.get(type(op), ()):
                yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for i in range(len(node.values)):
            rest = [v for k, v in enumerate(node.values) if k != i]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant):
        yield from of_constant(node.value)
    elif isinstance(node, ast.Subscript):
        yield from of_subscript(node)
    elif isinstance(node, ast.Call):
        yield from of_call(node)
    elif isinstance(node, ast.Attribute):
        for name in NAMES.get(node.attr, ()):
            yield ast.Attribute(node.value, name, node.ctx)
        if node.attr == "T":
            yield node.value
        if node.attr == "dtype":
            yield from (ast.parse(f"np.{name}", mode="eval").body for name in ("float32", "int64"))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        for name in NAMES.get(node.id, ()):
            if name not in ("sum", "mean"):
                yield ast.Name(name, node.ctx)
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        for swapped in neighbours(node.elts):
            yield ast.Tuple(swapped, node.ctx)
        for i in range(len(node.elts) if len(node.elts) > 1 else 0):
            yield ast.Tuple([e for k, e in enumerate(node.elts) if k != i], node.ctx)
    elif kind in (ast.GeneratorExp, ast.ListComp) and node.generators[0].ifs:  # type: ignore[attr-defined]
        bare = copy.deepcopy(node)
        bare.generators[0].ifs = []  # type: ignore[attr-defined]
        yield bare


def of_constant(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1) if value else ast.UnaryOp(ast.USub(), ast.Constant(1))
    elif isinstance(value, float):
        yield ast.Constant(value * 2)
        yield ast.Constant(0.0)
    elif isinstance(value, str) and "->" in value:  # einsum's
        inputs, _, output = value.partition("->")
        letters = output.replace("...", "")
        for a, b in pairwise(letters):
            yield ast.Constant(f"{inputs}->{output.replace(a, '#').replace(b, a).replace('#', b)}")
        for operand in inputs.split(","):
            bare = operand.replace("...", "")
            for a, b in pairwise(bare):
                swapped = operand.replace(a, "#").replace(b, a).replace("#", b)
                yield ast.Constant(f"{inputs.replace(operand, swapped, 1)}->{output}")


def of_subscript(node: ast.Subscript) -> Iterator[ast.expr]:
    index = node.slice
    items = index.elts if isinstance(index, ast.Tuple) else [index]
    if not isinstance(index, ast.Tuple) and isinstance(index, (ast.Name, ast.BinOp)):
        for op in (ast.Add, ast.Sub):
            yield ast.Subscript(node.value, ast.BinOp(index, op(), ast.Constant(1)), node.ctx)
    if isinstance(index, ast.Tuple):
        for swapped in neighbours(index.elts):
            yield ast.Subscript(node.value, ast.Tuple(swapped, ast.Load()), node.ctx)
        for i, item in enumerate(items):
            if isinstance(item, ast.Name):
                for op in (ast.Add, ast.Sub):
                    other = [*items[:i], ast.BinOp(item, op(), ast.Constant(1)), *items[i + 1 :]]
                    yield ast.Subscript(node.value, ast.Tuple(other, ast.Load()), node.ctx)
    if isinstance(node.ctx, ast.Load) and not isinstance(index, ast.Constant):
        yield node.value


def of_slice(node: ast.Slice) -> Iterator[ast.Slice]:
    for name in ("lower", "upper"):
        bound = getattr(node, name)
        others = [None] if bound is not None else []
        if bound is not None and not isinstance(bound, ast.Constant):
            others += [ast.BinOp(bound, op(), ast.Constant(1)) for op in (ast.Add, ast.Sub)]
        if bound is None and name == "lower":
            others.append(ast.Constant(1))
        if bound is None and name == "upper":
            others.append(ast.UnaryOp(ast.USub(), ast.Constant(1)))
        for other in others:
            changed = ast.Slice(node.lower, node.upper, node.step)
            setattr(changed, name, other)
            yield changed
    if node.step is not None:
        yield ast.Slice(node.lower, node.upper, None)


def of_call(node: ast.Call) -> Iterator[ast.expr]:
    for swapped in neighbours(node.args):
        yield ast.Call(node.func, swapped, node.keywords)
    for i in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, [k for j, k in enumerate(node.keywords) if j != i])
    plain = isinstance(node.func, ast.Name) or getattr(getattr(node.func, "value", None), "id", "") == "np"
    if plain and len(node.args) == 1 and not isinstance(node.args[0], (ast.GeneratorExp, ast.Starred)):
        yield node.args[0]
    elif isinstance(node.func, ast.Attribute) and not plain:  # a method: .copy(), .reshape(...), .sum(...)
        yield node.func.value
        if node.args:
            yield ast.Call(node.func, node.args[:-1], node.keywords)
    elif len(node.args) > 1:
        yield ast.Call(node.func, node.args[:-1], node.keywords)


def neighbours(items: list) -> Iterator[list]:
    """The items with two neighbours exchanged, and, of three or more, the first with the last."""
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]
    if len(items) > 2:
        yield [items[-1], *items[1:-1], items[0]]
