"""
The tests of aiclient2api: one file per module, named after it, readable as its manual.

``bin/test`` runs them all; ``bin/test tests.test_layers`` runs one file.
"""
