"""What handgrad found, for people and for machines. Reports compute nothing."""
