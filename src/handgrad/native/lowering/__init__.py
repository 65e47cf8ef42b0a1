"""How each ATen operation is made of maps, reductions, products, gathers, scatters and views."""

from handgrad.native.lowering import convolutions, indexing, losses, pointwise, products, reductions, special, views

__all__ = ["convolutions", "indexing", "losses", "pointwise", "products", "reductions", "special", "views"]
