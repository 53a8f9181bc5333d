"""The tests of Sercha; a package, so that `tests.support` is found from every folder."""
