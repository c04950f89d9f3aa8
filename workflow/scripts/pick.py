"""Prints the pinned lines of some packages of a lock file, hashes included: `pick.py requirements.lock uv`.

Runs before there is an environment, with the standard library alone.
"""

import re
import sys


def pick(lock: str, names: list[str]) -> str:
    """The entries of `names` in the text of a lock. Raises SystemExit if one is absent."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock)
    entry_of = {re.split(r"[=\[ ;]", entry, maxsplit=1)[0]: entry for entry in entries}
    missing = [name for name in names if name not in entry_of]
    if missing:
        raise SystemExit(f"not in the lock: {', '.join(missing)}")
    return "\n".join(entry_of[name] for name in names)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(pick(file.read(), sys.argv[2:]))
