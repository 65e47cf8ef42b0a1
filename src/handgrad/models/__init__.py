"""Models whose forward and backward are written by hand, one page each.

Nothing here is traced, derived or checked: these pages are a second witness, and import none of the pipeline.
"""
