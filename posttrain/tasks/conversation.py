"""Another task's problems late in a long conversation: the same ability in use.

Before the question stand turns about other things, which say nothing that helps or hinders. What a model scores here less
than on the bare problems (`beside`) is what it loses by being in the middle of something. `of` names the task, whose options
follow: `conversation:of=gsm8k,path=FILE,turns=4`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from posttrain.seeds import fold
from posttrain.tasks.of_task import InUse
from posttrain.types import Choice, ChoiceTask, Message, Problem, Rollout, Score, Task, UserError

EXCHANGES = (
    ("I have just come back from a long walk. The leaves are turning and the whole wood smells of rain.",
     "That sounds like a lovely walk. There is something very calming about a wood after the rain, when everything drips and shines."),
    ("My neighbour has started to play the violin in the evenings. She is not very good yet, but she is cheerful about it.",
     "How nice that she enjoys it. The first months on the violin are hard on everybody's ears, and cheerfulness is half of the work."),
    ("I am trying to decide whether to paint the kitchen. The walls look tired, but I do not enjoy painting.",
     "You could begin with the wall that bothers you most. Often one fresh wall is enough to change how the whole room feels."),
    ("Do you think it is better to read in the morning or at night?",
     "It depends on what you read for. In the morning the mind is fresh for difficult books, while at night a story helps to let go of the day."),
    ("We had guests last night, and they stayed much longer than I had expected. It was fun, though.",
     "Evenings that run away with themselves are often the best ones. I hope you could sleep in a little this morning."),
    ("My old bicycle makes a strange noise when I go uphill. I think it is the chain.",
     "A dry chain is a likely cause. Clean it with a cloth, put on a few drops of oil, and wipe off what is too much."),
    ("I want to write a letter to an old friend, and I do not know how to begin after such a long time.",
     "Begin with whatever made you think of your friend. An honest first line, even a clumsy one, is better than a clever one."),
    ("The cat has found a new place to sleep, on top of the washing machine. She seems to like it when it shakes.",
     "Cats love warmth and a steady hum, so a washing machine must be close to perfect. She will let you know when she has had enough."),
)  # fmt: skip
"""What was said before: about nothing that any task asks."""


@dataclass(frozen=True)
class Conversation(InUse):
    """A task whose every problem comes after `turns` exchanges about other things, of the same ones in an order of the problem's own."""

    turns: int = 6
    """How many exchanges stand before the question; each is a user's turn and an assistant's."""

    def __post_init__(self) -> None:
        if not 1 <= self.turns <= len(EXCHANGES):
            raise UserError(f"conversation: turns must be from 1 to {len(EXCHANGES)}, not {self.turns}")

    @property
    def name(self) -> str:
        return f"{self.task.name} in a long conversation"

    def problems(self, split: str) -> Sequence[Problem]:
        """The task's own, in their order, each with the conversation before its messages, behind a system message if it has one."""
        return [self._later(problem) for problem in self.task.problems(split)]

    async def score(self, rollout: Rollout) -> Score:
        return await self.task.score(replace(rollout, problem=self.bare(rollout.problem)))

    def solution(self, problem: Problem) -> str:
        return self.task.solution(self.bare(problem))

    def bare(self, problem: Problem) -> Problem:
        """The task's own problem."""
        n = len(_system(problem.messages))
        return replace(problem, id=problem.id.removesuffix(_MARK), messages=(*problem.messages[:n], *problem.messages[n + 2 * self.turns :]))

    def _later(self, problem: Problem) -> Problem:
        return replace(problem, id=f"{problem.id}{_MARK}", messages=self._behind(problem.id, problem.messages))

    def _behind(self, id: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        system = _system(messages)
        order = sorted(range(len(EXCHANGES)), key=lambda i: fold(0, "exchange", id, i))[: self.turns]
        said = (Message(role, text) for i in order for role, text in zip(("user", "assistant"), EXCHANGES[i], strict=True))
        return (*system, *said, *messages[len(system) :])


@dataclass(frozen=True)
class ChoiceConversation(Conversation):
    """The same of a task of choice, which stays one: the bare question, too, comes behind the conversation."""

    task: ChoiceTask

    def choice(self, problem: Problem) -> Choice:
        bare = self.bare(problem)
        found = self.task.choice(bare)
        return replace(found, messages=self._behind(bare.id, found.messages))


_MARK = "/later"


def in_conversation(task: Task, turns: int = 6) -> Conversation:
    """The task in a long conversation."""
    return ChoiceConversation(task, turns) if isinstance(task, ChoiceTask) else Conversation(task, turns)


def _system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return messages[:1] if messages and messages[0].role == "system" else ()
