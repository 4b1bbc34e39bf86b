"""What happens when a defence is taken away: some test must fail. `python -m tests.mutations [NAME…]` tries it.

Each mutation is made in a copy of the checkout, never in the checkout. The list with its tests is also in
docs/reliability.md (tests/test_mutations.py compares).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.mutations import MUTATIONS, Mutation

ROOT: Final = Path(__file__).parent.parent.parent
LIMIT: Final = 60  # seconds for one test: a mutant that waits for ever is caught, too


def main(names: Sequence[str]) -> int:
    """Try these, or all; 1 where one survived, or where its tests fail without it too."""
    wrong = set(names) - {each.name for each in MUTATIONS}
    if wrong:
        print(f"there is no mutation {', '.join(sorted(wrong))}", file=sys.stderr)
        return 2
    chosen = [each for each in MUTATIONS if not names or each.name in names]
    with copied() as copy:
        tests = sorted({test for each in chosen for test in each.tests})
        print(f"{len(tests)} tests without any mutation …", flush=True)
        if not passes(copy, tests, say=True):
            print("they do not pass by themselves: nothing can be said", file=sys.stderr)
            return 1
        survived = [each.name for each in chosen if not is_caught(copy, each)]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} are caught", end="")
    print(f"; SURVIVED: {', '.join(survived)}" if survived else "")
    return 1 if survived else 0


def is_caught(copy: Path, mutation: Mutation) -> bool:
    """Whether each of the mutation's tests fails with it. Prints one line."""
    began = time.monotonic()
    with applied(copy, mutation):
        missed = [test for test in mutation.tests if passes(copy, [test])]
    word = "SURVIVED" if missed else "caught"
    print(f"{word:9} {mutation.name:36} {time.monotonic() - began:5.1f} s  {' '.join(mutation.tests)}", flush=True)
    return not missed


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the checkout's files as they are now, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    with tempfile.TemporaryDirectory(prefix="millrace-mutant-") as folder:
        copy = Path(folder)
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        yield copy


@contextmanager
def applied(copy: Path, mutation: Mutation) -> Iterator[None]:
    """The copy with this mutation, until the end."""
    path = copy / mutation.file
    before = path.read_text()
    path.write_text(mutation.apply(before))
    try:
        yield
    finally:
        path.write_text(before)


def passes(copy: Path, tests: Sequence[str], *, say: bool = False) -> bool:
    """Whether these tests pass in the copy. Raises RuntimeError where pytest could not run them."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={LIMIT}", "--tb=line"]
    # Byte code is told by a file's time and size: a mutation of the same size within a second would not be seen.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode not in (0, 1) and "Timeout" not in ran.stdout + ran.stderr:
        raise RuntimeError(f"pytest ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
    if say and ran.returncode:
        print(ran.stdout)
    return ran.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
