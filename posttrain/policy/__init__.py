"""What is trained: one forward that serves training, scoring and sampling."""
