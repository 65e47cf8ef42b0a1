"""Forward, backward and update as one native loop: what `handgrad.compile` is made of.

The user's functions are captured as ATen calls (`capture`), lowered to formulas of single elements (`lowering`), which
are kept in memory only where that pays (`lower`, `program`), fused to loop nests (`nests`), placed in one arena
(`layout`), and written as LLVM IR (`llvm`). The outcome is a plan (`plan`), plain data with object code, which an
`executor` runs with NumPy alone; object code is kept in a cache (`cache`). `engine` is what users call.
"""
