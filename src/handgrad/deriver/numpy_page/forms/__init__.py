"""Operations of PyTorch as NumPy says them, one small page for each topic; `table` says how a form is written."""

from handgrad.deriver.numpy_page.forms import constants, joins, numbers, products, reductions, shapes
from handgrad.deriver.numpy_page.forms.table import FORMS, SAME, NoFormError, is_floating, operation

__all__ = [
    "FORMS", "SAME", "NoFormError", "constants", "is_floating", "joins", "numbers", "operation", "products",
    "reductions", "shapes",
]  # fmt: skip
