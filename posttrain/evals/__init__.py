"""What a model can do and what training changed, with error bars: measure, compare, and show."""
