"""Foreign checkpoints made into house checkpoints; nothing in a file is ever executed."""
