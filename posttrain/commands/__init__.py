"""The command line's commands, one file each: `Args`, a dataclass that becomes its flags, and `main(args)`, which returns the exit code."""
