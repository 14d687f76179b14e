"""Programs that measure; no part of the installed package. Each says what it measures with --help."""
