"""Targets for coverage-guided fuzzing, each a module with ``check(data)``, which raises where something is wrong.

``python -m fuzz --help`` runs one with atheris; ``test_corpus.py`` gives each the corpus, and needs no atheris.
"""
