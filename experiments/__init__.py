"""One file for each scientific question: its docstring holds the question, the design, what would make it dishonest, and the measured answer."""
