"""A ledger to keep: amounts added to accounts and moved between them, by tools, with every balance checked at the end.

| operation | in words                          | what it takes                                                       |
|-----------|-----------------------------------|---------------------------------------------------------------------|
| add       | Add 7 to anna.                    | one call                                                            |
| transfer  | Move 7 from anna to ben.          | one call                                                            |
| empty     | Move all that anna has to ben.    | her balance, which was told or can be read, and one call            |

A balance may fall below 0, so that no operation is ever impossible. What was not asked for counts as wrong, on any account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from posttrain.tasks.jobs import Jobs, Opening, Operation, State
from posttrain.tools.tool import Tool, tool
from posttrain.types import ToolCall, ToolError, UserError

NAMES = ("anna", "ben", "carol", "dan", "eve", "finn", "gina", "hugo", "ida", "jack", "kate", "leo")
KINDS = ("add", "transfer", "empty")
LARGEST, HIGHEST = 9, 40
"""Of an amount, and of an opening balance."""


@dataclass(frozen=True)
class Ledger(Jobs):
    """A ledger of a few accounts; `horizon` operations on it."""

    accounts: int = 4
    """How many accounts, from 2 to 12."""
    operations: tuple[str, ...] = KINDS
    """What is to be done: add, transfer, empty."""

    def __post_init__(self) -> None:
        if not 2 <= self.accounts <= len(NAMES):
            raise UserError(f"ledger keeps 2 to {len(NAMES)} accounts, not {self.accounts}")
        if not self.operations or set(self.operations) - set(KINDS):
            raise UserError(f"ledger knows the operations {', '.join(KINDS)}, not {list(self.operations)}: say operations=add+transfer, for instance")
        super().__post_init__()

    @property
    def craft(self) -> Bookkeeping:
        return Bookkeeping(self.accounts, self.operations)


@dataclass(frozen=True)
class Bookkeeping:
    """The `Craft`: a state is a balance for each account."""

    accounts: int = 4
    kinds: tuple[str, ...] = KINDS
    name = "ledger"
    writes = ("add", "transfer")

    def draw(self, random: Random, horizon: int) -> Opening:
        state = {name: random.randint(1, HIGHEST) for name in sorted(random.sample(NAMES, self.accounts))}
        now, operations = state, []
        for _ in range(horizon):
            operations.append(self._drawn(now, random))
            now = self.done(now, operations[-1])
        asked = random.choice(list(state))
        described = ", ".join(f"{name} {balance}" for name, balance in state.items())
        return Opening(state, f"A ledger of accounts: {described}.", tuple(operations), asked, f"Say what {asked} has then, as a number.")

    def _drawn(self, state: State, random: Random) -> Operation:
        holders = [name for name in state if state[name] > 0]
        kind = random.choice([kind for kind in self.kinds if kind != "empty" or holders] or ["add"])
        source = random.choice(holders if kind == "empty" else list(state))
        target = random.choice([name for name in state if name != source])
        amount = random.randint(1, LARGEST)
        return {
            "add": Operation("add", f"Add {amount} to {source}.", {"account": source, "amount": amount}),
            "transfer": Operation(
                "transfer", f"Move {amount} from {source} to {target}.", {"source": source, "target": target, "amount": amount}
            ),
            "empty": Operation("empty", f"Move all that {source} has to {target}.", {"source": source, "target": target}),
        }[kind]  # fmt: skip

    def tools(self, state: State) -> Sequence[Tool]:
        def told(*accounts: str) -> str:
            return ", ".join(f"{account} has {state[account]}" for account in dict.fromkeys(accounts))

        def check(*accounts: str) -> None:
            for account in accounts:
                if account not in state:
                    raise ToolError(f"there is no account '{account}'; there are {', '.join(state)}")

        async def add(account: str, amount: int) -> str:
            """Adds an amount to an account."""
            check(account)
            state[account] += int(amount)
            return told(account)

        async def transfer(source: str, target: str, amount: int) -> str:
            """Moves an amount from one account to another."""
            check(source, target)
            state[source] -= int(amount)
            state[target] += int(amount)
            return told(source, target)

        async def balance(account: str) -> str:
            """Reads what an account has."""
            check(account)
            return told(account)

        return tool(add), tool(transfer), tool(balance)

    def done(self, state: State, operation: Operation) -> State:
        said = operation.arguments
        if operation.kind == "add":
            return {**state, said["account"]: state[said["account"]] + said["amount"]}
        source, target = said["source"], said["target"]
        amount = said.get("amount", state[source])
        return {**state, source: state[source] - amount, target: state[target] + amount}

    def calls(self, state: State, operation: Operation) -> tuple[ToolCall, ...]:
        said = dict(operation.arguments)
        if operation.kind != "empty":
            return (ToolCall(operation.kind, said),)
        read = ToolCall("balance", {"account": said["source"]})
        return read, ToolCall("transfer", {**said, "amount": state[said["source"]]})

    def slip(self, state: State, operation: Operation, random: Random) -> ToolCall:
        right = self.calls(state, operation)[-1]
        return ToolCall(right.name, {**right.arguments, "amount": right.arguments["amount"] + random.choice((-2, -1, 1, 2))})

    def count(self, state: State, asked: str) -> int:
        return state[asked]
