"""The ledger: who was let in, who went around, and what was done, in files that show when they were tampered with.

``lines`` is how one line is written and sealed, ``files`` where lines stand, ``writing`` how they get there,
``judging`` what a whole ledger is worth. docs/adr/0017 says what all of it proves, and what it cannot.
"""
