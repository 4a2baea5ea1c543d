"""How `make test` is divided, and what it says at its end."""

from pathlib import Path

from project.devstack.__main__ import LANES, MAIN, closing_words

REPORT = """<testsuites><testsuite time="{seconds}"><testcase classname="tests.a" name="one" time="{seconds}"/>
<testcase classname="tests.a" name="two" time="0.5">{outcome}</testcase></testsuite></testsuites>"""


def test_every_lane_names_what_there_is_and_nothing_twice() -> None:
    named = [path for lane in (MAIN, *LANES) for path in lane]
    assert [path for path in named if not Path(__file__).parents[1].joinpath(path).exists()] == []
    assert len(named) == len(set(named))


def test_the_end_names_the_slowest_of_all_lanes_and_adds_them_up(tmp_path: Path) -> None:
    reports = {name: tmp_path / f"{name}.xml" for name in ("quick", "slow", "broken")}
    reports["quick"].write_text(REPORT.format(seconds=1.5, outcome="<skipped/>"))
    reports["slow"].write_text(REPORT.format(seconds=20, outcome="<failure/>"))
    lines = closing_words(reports, {"quick": 0, "slow": 1, "broken": 3}, 21.5)
    assert [line.split() for line in lines[1:3]] == [["20.0", "s", "tests.a::one"], ["1.5", "s", "tests.a::one"]]
    assert lines[-4:] == [
        "quick: 1 passed, 1 skipped in 2 s, exit code 0",
        "slow: 1 failed, 1 passed in 20 s, exit code 1",
        "broken: ended with 3 before its report",
        "=== 1 failed, 2 passed, 1 skipped in 21.50s ===",
    ]
