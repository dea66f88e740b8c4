"""What runs inside the two sandboxes of a judgement by unit tests. Of the standard library alone; nothing here imports posttrain.

- `wire`           how the two speak: frames of JSON, and which values cross as data
- `program_side`   holds the program and does to it what it is asked; nothing that it says is believed
- `tests_side`     runs the tests, with stand-ins for what the program defines, and comes to the verdict

Files, not imports: each sandbox is given the text of the two that it needs.
"""
