"""The script that breaks the product on purpose, on a tree of two files."""

from dataclasses import replace

import pytest

from tests.mutants import (
    BROKEN,
    KILLED,
    LIST,
    REPOSITORY,
    SURVIVED,
    Mutant,
    MutantError,
    check,
    copied,
    outcome,
    read,
    tried,
)

PRODUCT = "def larger(a, b):\n    return a if a > b else b\n"
TEST = (
    "from product import larger\n\n\ndef test_larger():\n    assert larger(2, 1) == 2\n"
)
WRONG = Mutant(
    name="wrong", file="product.py", old="a > b", new="a < b", tests=("test_it.py",)
)
SAME = replace(WRONG, name="same", new="a >= b")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "product.py").write_text(PRODUCT)
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.mark.e2e
def test_mutant_is_killed_by_a_test_that_fails_and_survives_where_none_does(tree):
    assert [outcome(mutant, tree) for mutant in (WRONG, SAME)] == [KILLED, SURVIVED]
    assert (tree / "product.py").read_text() == PRODUCT


@pytest.mark.e2e
def test_mutant_that_its_tests_cannot_run_with_is_not_taken_for_killed(tree):
    assert outcome(replace(WRONG, new="a >"), tree) == BROKEN


@pytest.mark.e2e
def test_tests_that_fail_without_a_mutant_kill_none(tree, capsys):
    (tree / "test_it.py").write_text(TEST.replace("== 2", "== 3"))
    assert tried([WRONG, SAME], tree) == {BROKEN: 2}
    assert "wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"old": "a == b"}, "stands 0 times in product.py"),
        ({"old": "a"}, "stands 4 times in product.py"),
        ({"file": "gone.py"}, "stands 0 times in gone.py"),
        ({"tests": ("test_gone.py",)}, "no test_gone.py"),
        ({"name": "same"}, "named 2 times"),
    ],
)
def test_list_that_does_not_fit_the_tree_is_an_error(tree, change, said):
    check([WRONG, SAME], tree)
    with pytest.raises(MutantError, match=said):
        check([replace(WRONG, **change), SAME], tree)


def test_copy_holds_the_product_and_its_tests(tmp_path):
    mutants = read(LIST)
    tree = copied(tmp_path / "tree")
    assert (tree / "pyproject.toml").exists()
    assert all((tree / mutant.file).is_file() for mutant in mutants)
    assert (tree / ".tools").resolve() == (REPOSITORY / ".tools").resolve()
    assert not (tree / ".git").exists()
