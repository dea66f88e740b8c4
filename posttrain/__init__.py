"""posttrain turns a base language model into an assistant, a reasoner and an agent, and measures what each step did to it.

Importing the package does nothing: no banner, no folder, no network, no torch.
"""

__version__ = "0.1.0"
