"""One small file per array library: how its arrays are read and how results go back."""
