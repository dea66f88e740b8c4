"""Inference-time compute: agents made of agents, what they spend, and the laws of what it buys."""
