"""Progress bars in a notebook."""

import sys
import types
import warnings

import pytest

from imgret.ingest.progress import in_notebook, progress_bar


@pytest.fixture
def notebook(monkeypatch):
    """As if this process were the kernel of a notebook."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.delitem(sys.modules, "tqdm.auto", raising=False)
    monkeypatch.delitem(sys.modules, "tqdm.autonotebook", raising=False)
    return shell


def bar(progress):
    return progress_bar(progress, total=2, unit="img", desc="indexing")


def test_a_notebook_gets_a_bar_by_default_and_no_warning(notebook, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with bar(None) as shown:
            assert not shown.disable
            shown.update(2)
    assert "tqdm.auto" in sys.modules


def test_a_notebook_that_wants_none_gets_none(notebook):
    assert bar(False).disable


def test_a_terminal_of_ipython_is_no_notebook(notebook):
    notebook.config = {"TerminalIPythonApp": {}}
    assert not in_notebook()
    assert bar(None).disable


def test_without_ipython_nothing_is_drawn_into_a_pipe(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert bar(None).disable
