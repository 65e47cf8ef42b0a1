"""Forward, backward and update as one native loop: what `handgrad.compile` is made of.

The user's functions are captured as ATen calls (`capture`), lowered to formulas of single elements (`lowering`), which
are kept in memory only where that pays (`lower`, `program`), fused to loop nests (`nests`), placed in one arena
(`layout`), and written as LLVM IR (`llvm`). `engine` holds the machine code and its memory.
"""
