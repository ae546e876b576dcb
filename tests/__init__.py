"""The tests, one folder per package. Every folder is a package, so that two may hold files of the same name."""
