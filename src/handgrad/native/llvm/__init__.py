"""The executor that turns nests into machine code, through LLVM."""
