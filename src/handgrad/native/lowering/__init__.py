"""How each ATen operation is made of maps, reductions, products, gathers, scatters and views."""

from handgrad.native.lowering import indexing, losses, pointwise, products, reductions, views

__all__ = ["indexing", "losses", "pointwise", "products", "reductions", "views"]
