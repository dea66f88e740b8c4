"""What runs inside the sandbox of a tool. Of the standard library alone; nothing here imports posttrain.

- `interpreter`   keeps a model's Python alive between its calls

Files, not imports: the sandbox is given the text.
"""
