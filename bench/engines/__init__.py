"""What `bench/steps.py` measures: engines, each in a process of its own, and the cases they run."""
