"""Log lines: on standard error, in two formats, from a level up."""

import json
import logging
import re
from pathlib import Path

import pytest

from maesh_core.process.logging_setup import LEVELS, configure_logging

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_common_line_holds_time_level_logger_and_text(capsys):
    configure_logging("info", "common")
    logging.getLogger("maesh.test").warning("a %s", "text")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING maesh\.test: a text\n", err)


def test_the_fields_of_a_json_line_are_documented(capsys):
    configure_logging("info", "json")
    logger = logging.getLogger("maesh.test")
    logger.info("plain")
    try:
        raise KeyError
    except KeyError:
        logger.exception("failed")
    plain, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert set(failed) - set(plain) == {"error"}
    _, _, table = DOCUMENT.read_text().partition("each line is an object with these fields:")
    rows = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n## ")[0], re.MULTILINE)
    assert rows == list(failed)


def test_json_line_is_one_object_with_the_traceback_inside(capsys):
    configure_logging("info", "json")
    try:
        raise KeyError("gone\nfar")
    except KeyError:
        logging.getLogger("maesh.test").exception("line one\nline two")
    (line,) = capsys.readouterr().err.splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["logger"], fields["message"]) == ("error", "maesh.test", "line one\nline two")
    assert "KeyError" in fields["error"]


@pytest.mark.parametrize("level", sorted(LEVELS))
def test_lines_below_the_level_are_not_written(capsys, level):
    configure_logging(level, "common")
    logger = logging.getLogger("maesh.test")
    logger.log(LEVELS[level], "at")
    logger.log(LEVELS[level] - 1, "below")
    err = capsys.readouterr().err
    assert " at\n" in err.replace("maesh.test: at", " at")
    assert "below" not in err


def test_configuring_twice_writes_each_line_once(capsys):
    configure_logging("info", "common")
    configure_logging("info", "common")
    logging.getLogger("maesh.test").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_the_watcher_never_logs_each_change_so_that_a_log_beside_the_manifests_cannot_feed_itself(capsys):
    configure_logging("debug", "common")
    logging.getLogger("watchfiles.main").debug("1 change detected")
    logging.getLogger("watchfiles.main").info("1 change detected")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["common", "json"])
def test_no_text_begins_a_line_of_its_own_or_reaches_a_terminal(capsys, log_format):
    configure_logging("info", log_format)
    hostile = "name \x1b[31m\r\n2026-01-01T00:00:00.000Z ERROR forged\u2028x"
    logging.getLogger("maesh.test").warning("refused %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        logging.getLogger("maesh.test").exception("failed")
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    own = [line for line in lines if not line.startswith("  ")]
    assert [bool(re.search("WARNING|warning", line)) for line in own] == [True, False]
    assert not any("\x1b" in line or "\r" in line for line in lines)
    if log_format == "common":
        assert r"refused name \x1b[31m\r\n2026-01-01T00:00:00.000Z ERROR forged\u2028x" in own[0]
