"""People's files: a notebook or script, read as it is and run in a process of its own."""

from handgrad.runner.options import Options
from handgrad.runner.process import check_file

__all__ = ["Options", "check_file"]
