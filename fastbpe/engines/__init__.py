"""Work on many machines; each engine is a module, and needs an extra."""
