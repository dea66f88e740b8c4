"""What attempts problems: a bare model, a model with tools, or a script."""
