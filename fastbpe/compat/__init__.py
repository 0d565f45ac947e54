"""Other projects' interfaces over fastbpe: thin, and never imported by the rest."""
