"""From a graph and the rules to a backward that a person would write.

`scope` what the code can see → `sizes`, `spelling` what the user calls things → `forward` values as expressions →
`walk` the shares of every gradient → `page` their lines → `derivation` verified.
"""

from handgrad.deriver.derivation import Backward, derive, derive_graph
from handgrad.deriver.page import Line

__all__ = ["Backward", "Line", "derive", "derive_graph"]
