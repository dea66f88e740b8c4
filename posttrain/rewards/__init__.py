"""Judges of text and of rollouts. A reward is `async (Rollout) -> Score`; what it could not judge is nan, never 0.

- `exact`       the same text after normalising, or the same last number
- `math_equal`  the same mathematics, by `math-verify`
- `format`      the right form, whatever it says
- `learned`     what a reward model makes of a conversation, all who wait read in one batch
- `judge`       a language model's opinion: a grade, or which of two is better, asked in both orders
- `unit_tests`  a program against its tests, each in a sandbox of its own; `code_answer` finds the program in a reply
- `weighted`    several rewards as one, the parts kept
- `workers`     the killable processes in which every judge runs that could hang, crash or eat the memory
"""
