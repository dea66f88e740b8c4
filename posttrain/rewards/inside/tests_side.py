"""Runs the tests and comes to the verdict. Arguments: descriptors to read from and to write to.

What the program defines is not here: a `StandIn` passes each call on and brings back what the program answers, as data. The
comparing is done here, by Python's own equality of plain values, so the program cannot have it patched. What is no data equals
nothing. Names that the tests use and nothing here defines are modules of the standard library, or else the program's.

The verdict goes to stdout as JSON, a line when the tests are ready to begin and a line at the end; what tests print goes to stderr.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import re
import symtable
import sys
import traceback

from wire import Connection, Gone, Unsendable, pack, unpack


class ProgramError(Exception):
    """The program raised something that is no exception of Python's own."""


class StandIn:
    """Stands for a value that only the program has."""

    __slots__ = ("_number", "_program")

    def __init__(self, program: Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args, **kwargs):
        return self._program.do("call", self, list(args), kwargs)

    def __getattr__(self, name):
        return self._program.do("getattr", self, name)

    def __setattr__(self, name, value):
        self._program.do("setattr", self, name, value)

    def __getitem__(self, key):
        return self._program.do("getitem", self, key)

    def __setitem__(self, key, value):
        self._program.do("setitem", self, key, value)

    def __iter__(self):
        return self._program.do("iter", self)

    def __next__(self):
        return self._program.do("next", self)

    def __len__(self):
        return self._program.do("len", self)

    def __str__(self):
        return self._program.do("str", self)

    def __repr__(self):
        return self._program.do("repr", self)

    def __bool__(self):
        return self._program.do("bool", self) is True

    def __int__(self):
        return self._program.do("int", self)

    def __float__(self):
        return self._program.do("float", self)


class Program:
    """The other side."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def greet(self) -> None:
        """Wait until it is loaded. Raises what it raised."""
        self._answer()

    def name(self, name: str) -> object:
        """What the program calls so. Raises AttributeError if it is nothing."""
        self.connection.send(["name", name])
        return self._answer()[0]

    def do(self, action: str, *values: object) -> object:
        """Have something done there, and take the result; lists and the like that it changed are changed here as well."""
        self.connection.send([action, *(pack(value, _number) for value in values)])
        result, changes = self._answer()
        for position, new in changes if action == "call" else ():
            _replace(values[1][position], unpack(new, self._stand_in))
        return result

    def _stand_in(self, number: int) -> StandIn:
        return StandIn(self, number)

    def _answer(self) -> tuple[object, list]:
        kind, value, rest = self.connection.receive()
        if kind == "raised":
            raise _own_exception(value)(rest)
        return unpack(value, self._stand_in), rest


def _number(value: object) -> int:
    if isinstance(value, StandIn):
        return value._number
    raise Unsendable(f"a {type(value).__name__} cannot be handed to the program: only data can")


def _replace(old: object, new: object) -> None:
    """Make one list, dict, set or bytearray hold what another does."""
    if type(old) is not type(new):
        raise ProgramError("an argument came back as another type")
    if isinstance(old, list | bytearray):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def _own_exception(names: list[str]) -> type[Exception]:
    """The nearest of Python's own exceptions from which the program's derives."""
    known = (getattr(builtins, name, None) for name in names)
    return next((kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception)), ProgramError)


def free_names(source: str) -> set[str]:
    """The names that the tests use and do not define, built-in ones aside."""
    table = symtable.symtable(source, "tests", "exec")
    defined = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()}
    used, scopes = set(), [table]
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        used |= {s.get_name() for s in scope.get_symbols() if s.is_referenced() and (s.is_global() or scope is table)}
    return used - defined - set(dir(builtins))


def namespace(spec: dict, program: Program) -> dict[str, object]:
    """What the tests find when they begin: what they define, modules, and stand-ins for what the program defines."""
    names: dict[str, object] = {"__name__": "tests"}
    everything = "\n".join([*spec["setup"], *spec["checks"]])
    for name in sorted(free_names(everything) - set(spec["aliases"])):
        if name in sys.stdlib_module_names and re.search(rf"\b{name}\.", everything):
            names[name] = importlib.import_module(name)
        else:
            _take(names, name, program, name)
    _take_all(names, spec["aliases"], program)
    for number, source in enumerate(spec["setup"]):
        exec(compile(source, f"setup {number}", "exec"), names)
    _take_all(names, spec["aliases"], program)  # again: they win over what the setup defines
    return names


def _take_all(names: dict[str, object], aliases: dict[str, str], program: Program) -> None:
    for alias, name in aliases.items():
        _take(names, alias, program, name)


def _take(names: dict[str, object], alias: str, program: Program, name: str) -> None:
    try:
        names[alias] = program.name(name)
    except AttributeError:
        return  # the test that needs it will say so


def explain(error: BaseException, sources: dict[str, str]) -> str:
    """The error, and the line of the tests at which it came up."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in sources and frame.lineno:
            return f"{text} at: {sources[frame.filename].splitlines()[frame.lineno - 1].strip()[:200]}"
    return text


def run(spec: dict, program: Program) -> dict[str, object]:
    """The verdict: how many checks passed, of how many, and the first that did not."""
    sources = {f"check {i}": source for i, source in enumerate(spec["checks"])} | {f"setup {i}": source for i, source in enumerate(spec["setup"])}
    failures: list[str] = []
    passed = 0
    try:
        program.greet()
        names = namespace(spec, program)
    except Exception as error:
        return _verdict(spec, 0, [f"the program could not be loaded: {explain(error, sources)}"])
    for number, source in enumerate(spec["checks"]):
        try:
            exec(compile(source, f"check {number}", "exec"), names)
            passed += 1
        except Unsendable as error:
            return {"unjudgeable": str(error)}
        except Exception as error:
            failures.append(explain(error, sources))
    return _verdict(spec, passed, failures)


def _verdict(spec: dict, passed: int, failures: list[str]) -> dict[str, object]:
    return {"passed": passed, "of": len(spec["checks"]), "failure": failures[0][:600] if failures else ""}


def main() -> None:
    own_stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with open("tests.json", encoding="utf-8") as file:
        spec = json.load(file)
    for source in [*spec["setup"], *spec["checks"]]:
        compile(source, "tests", "exec")
    print(json.dumps({"ready": True}), file=own_stdout, flush=True)
    try:
        verdict = run(spec, Program(Connection(int(sys.argv[-2]), int(sys.argv[-1]))))
    except Gone:
        verdict = {"gone": True}
    print(json.dumps(verdict), file=own_stdout, flush=True)


if __name__ == "__main__":
    main()
