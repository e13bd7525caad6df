"""Options of the test run, and the fixtures that all tests share."""

from typing import Any

import pytest

from jitloss import registry


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch):
    """A copy of the registry for each test, because examples and tests register types."""
    for name in ("_by_type", "_by_name", "_found", "_calls"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", action="store_true", help="fail where a test would be skipped: everything it needs must be here"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With ``--dist loadgroup``, all tests of one parameter go to one process: what they share is made once.

    pytest-xdist's own groups are names added to the ids of tests, which pytest 9.2 no longer lets it do.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByParameter(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("[")[2] or nodeid

    return ByParameter(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    return _failed(report, item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    report = yield
    return _failed(report, collector.config)


def _failed(report, config: pytest.Config):
    """Turn the report of a skip into a failure under ``--no-skips``."""
    if report.skipped and config.getoption("--no-skips") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips forbids: {report.longrepr}"
    return report


@pytest.fixture
def short_way(monkeypatch):
    """A function that makes a call, and fails if it took the slow path."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("this call took the slow path")

    def call(form: Any, *args: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr("jitloss.form.Evaluation", refuse)
            return form(*args, **options)

    return call
