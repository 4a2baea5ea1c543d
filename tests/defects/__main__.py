"""How many small defects the suite notices. Run by hand: it takes an hour.

    python -m tests.defects                 every defect of `defects.txt`
    python -m tests.defects sessions mfa    those of some areas

In a copy of the checkout, one line at a time is broken and the tests that matter run until the first failure. Each
defect was chosen from the code before the tests were read. A defect that no test notices asks for a test."""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BASE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Defect:
    area: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


def read(text: str) -> Iterator[Defect]:
    """`== area: tests`, then blocks of three lines: `@ file`, `- right`, `+ wrong`. Both are parts of one line."""
    tests: tuple[str, ...] = ()
    area = file = right = ""
    for line in text.splitlines():
        mark, _, rest = line.partition(" ")
        match mark:
            case "==":
                area, _, named = rest.partition(": ")
                tests = tuple(named.split())
            case "@":
                file = rest
            case "-":
                right = rest
            case "+":
                yield Defect(area, file, right, rest, tests)


def broken(text: str, defect: Defect) -> str:
    found = text.count(defect.right)
    if found != 1:
        raise SystemExit(f"{defect.file} has {found} times, not once: {defect.right}")
    return text.replace(defect.right, defect.wrong)


def is_noticed(copy: Path, defect: Defect) -> bool:
    file = copy / defect.file
    before = file.read_text()
    file.write_text(broken(before, defect))
    try:
        command = [sys.executable, "-m", "project.devstack", "test", "-x", "-q", *defect.tests]
        return subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 1
    finally:
        file.write_text(before)


def main(areas: set[str]) -> int:
    defects = [one for one in read((BASE / "tests/defects/defects.txt").read_text()) if not areas or one.area in areas]
    for one in defects:  # none is stale, before any of them runs
        broken((BASE / one.file).read_text(), one)
    noticed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="defects-") as folder:
        copy = Path(folder, "copy")
        shutil.copytree(BASE, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".data", "node_modules", "shots"))
        (copy / ".venv").symlink_to(BASE / ".venv")
        for number, one in enumerate(defects, start=1):
            seen = is_noticed(copy, one)
            noticed[one.area] += seen
            print(f"{number:3}/{len(defects)} {'noticed' if seen else 'MISSED '} {one.area:10} {one.file}: {one.wrong}")
    for area, count in Counter(one.area for one in defects).items():
        print(f"{area:12} {noticed[area]} of {count}")
    print(f"{noticed.total()} of {len(defects)} noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main(set(sys.argv[1:])))
