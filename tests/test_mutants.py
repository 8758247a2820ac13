"""The table of faults is true of the code as it is, and the command tells what is caught from what is not."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.mutants.__main__ import main, planted, run_all
from benchmarks.mutants.faults import FAULTS, MODULES, Fault
from fbinpaint.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_fault_has_its_one_place_and_its_tests():
    for fault in FAULTS:
        assert planted(fault, (ROOT / fault.file).read_text(encoding="utf-8"))
        assert fault.old != fault.new and fault.tests
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).is_file() and (not name or name.split("[")[0] in functions_of(file)), test
    assert max(Counter(fault.name for fault in FAULTS).values()) == 1


def test_every_module_of_the_method_has_three_faults_or_more():
    faults = Counter(fault.file for fault in FAULTS)
    assert len(FAULTS) >= 60 and {module for module in MODULES if faults[f"fbinpaint/{module}"] < 3} == set()
    assert set(faults) == {f"fbinpaint/{module}" for module in MODULES}


@pytest.mark.parametrize("text", ["a = 1\n", "x = 2; x = 2\n"])
def test_a_fault_that_has_no_place_or_two_is_refused(text):
    with pytest.raises(InputError, match="code.py: 'a slip': 'x = 2' is there [02] times"):
        planted(Fault("a slip", "code.py", "x = 2", "x = 3", ("test_code.py",)), text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "new, outcome",
    [
        ("return 3", "caught"),
        ("return 2.0", "SURVIVED"),
        ("return", "caught"),
        ("return 2 +", "caught (it does not import)"),
        ("import time; time.sleep(60)", "caught (it hangs)"),
    ],
)
def test_a_fault_is_caught_where_a_test_fails(new, outcome, tmp_path):
    """And the copy is left as it was."""
    code, test = "def two():\n    return 2\n", "from code_of_two import two\n\ndef test_two():\n    assert two() == 2\n"
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "code_of_two.py").write_text(code)
    (folder / "test_code.py").write_text(test)
    fault = Fault("a slip", "code_of_two.py", "return 2", new, ("test_code.py",))
    (run,) = run_all([folder], [(fault.tests, fault)], seconds=5 if "sleep" in new else 120)
    assert run.outcome == outcome and (folder / "code_of_two.py").read_text() == code


def test_faults_are_listed_by_file_and_by_words(capsys):
    assert main(["--list", "--module", "fbinpaint/evaluation", "--only", "bootstrap"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "fbinpaint/evaluation/metrics.py: the bootstrap of mIoU is not paired",
        "fbinpaint/evaluation/metrics.py: the bootstrap is not paired",
    ]
    with pytest.raises(InputError, match="no such fault"):
        main(["--only", "of no such name"])
