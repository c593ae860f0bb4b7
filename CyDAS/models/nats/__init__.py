"""The topology space of NATS-Bench: its architectures and their forms, its cells and networks."""
