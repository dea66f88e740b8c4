"""Holds the program, and does to it what the tests ask. Arguments: descriptors to read from and to write to.

The program shares this process and may do with it what it likes: answer falsely, kill it, read it. All that this can change is
what the program is seen to answer. Neither the tests nor the verdict are here.
"""

from __future__ import annotations

import operator
import sys
import types

from wire import Connection, Gone, Unsendable, pack, unpack

DOING = {
    "call": lambda function, args, kwargs: function(*args, **kwargs),
    "getattr": getattr, "setattr": setattr, "getitem": operator.getitem, "setitem": operator.setitem,
    "iter": iter, "next": next, "len": len, "str": str, "repr": repr, "bool": bool, "int": int, "float": float,
}  # fmt: skip
_MUTABLE = (list, dict, set, bytearray)


class Held:
    """The values that stayed here, by number."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.numbers: dict[int, int] = {}

    def number(self, value: object) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.values)
            self.values.append(value)
        return self.numbers[id(value)]


def load(source: str) -> types.ModuleType:
    """The program as a module; not as the main one, so that what it would only do as a script it does not do."""
    module = sys.modules["program"] = types.ModuleType("program")
    exec(compile(source, "program.py", "exec"), module.__dict__)
    return module


def answer(request: list[object], module: types.ModuleType, held: Held) -> list[object]:
    """Do one thing. Values that the tests handed over and the program changed go back with the answer."""
    action, *packed = request
    if action == "name":
        return ["value", pack(getattr(module, packed[0]), held.number), []]
    args = [unpack(part, held.values.__getitem__) for part in packed]
    result = DOING[action](*args)
    value = pack(result, held.number)
    return ["value", value, _changes(args[1], packed[1], held) if action == "call" else []]


def _changes(args: list[object], before: list[object], held: Held) -> list[object]:
    """[position, new value] of each list, dict, set or bytearray among the arguments that is no longer what it was."""
    after = [(i, pack(arg, held.number)) for i, arg in enumerate(args) if isinstance(arg, _MUTABLE)]
    return [[i, value] for i, value in after if value != before[i + 1]]


def raised(error: BaseException) -> list[object]:
    names = [kind.__name__ for kind in type(error).__mro__]
    try:
        return ["raised", names, str(error)[:500]]
    except Exception:
        return ["raised", names, ""]


def serve(connection: Connection, module: types.ModuleType) -> None:
    held = Held()
    while True:
        request = connection.receive()
        try:
            reply = answer(request, module, held)
        except BaseException as error:  # whatever it is that a program raises
            reply = raised(error)
        try:
            connection.send(reply)
        except (Unsendable, RecursionError) as error:
            connection.send(raised(error))


def main() -> None:
    connection = Connection(int(sys.argv[-2]), int(sys.argv[-1]))
    with open("program.py", encoding="utf-8") as file:
        source = file.read()
    try:
        module = load(source)
    except BaseException as error:
        connection.send(raised(error))
        return
    connection.send(["value", None, []])
    serve(connection, module)


if __name__ == "__main__":
    try:
        main()
    except Gone:  # the tests have come to their end
        pass
