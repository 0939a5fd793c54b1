"""Settings come from flags, then environment variables, then defaults."""

from __future__ import annotations

import pytest

from crack_data.errors import CrackError
from serve.settings import Settings, parse_settings


def test_flags_win_over_the_environment_over_defaults() -> None:
    environment = {"CRACK_SERVE_PORT": "9001", "CRACK_SERVE_DEADLINE_S": "2.5", "OTHER": "x"}
    settings = parse_settings(["--port", "9002", "--queue-size", "3"], environment)
    assert settings == Settings(port=9002, deadline_s=2.5, queue_size=3)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CRACK_SERVE_PORT": "70000"}, ["port is 70000", "(0 to 65,535)"]),
        ({"CRACK_SERVE_QUEUE_SIZE": "0"}, ["queue_size is 0", "(1 to 1,000)"]),
        ({"CRACK_SERVE_QUEUE_SIZE": "100000"}, ["queue_size", "1,000"]),
        ({"CRACK_SERVE_MAX_PIXELS": "300000000"}, ["max_pixels", "178,000,000"]),
        ({"CRACK_SERVE_DEADLINE_S": "nan"}, ["deadline_s is nan"]),
        ({"CRACK_SERVE_DEADLINE_S": "inf"}, ["deadline_s is inf", "3,600"]),
        ({"CRACK_SERVE_URL_PREFIX": "cracks"}, ["url_prefix", "'cracks'"]),
        ({"CRACK_SERVE_CORS_ORIGIN": "example.org"}, ["cors_origin", "https://"]),
        ({"CRACK_SERVE_LOG_LEVEL": "loud"}, ["log_level", "'loud'"]),
        ({"CRACK_SERVE_HOST": ""}, ["host is ''", "address to listen on"]),
        ({"CRACK_SERVE_WEIGHTS": ""}, ["weights is empty", "leave it out"]),
    ],
)
def test_a_bad_value_is_named(environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(CrackError) as caught:
        parse_settings([], environment)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("key", ["schlüssel", "日本", "line\n", " spaced", "spaced "])
def test_a_key_that_browsers_cannot_send_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(CrackError, match=r"api_key is not usable; .*ASCII") as caught:
        parse_settings([], {"CRACK_SERVE_API_KEY": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize("flag", ["--weights=", "--config-file="])
def test_an_empty_path_is_not_the_shipped_model(flag: str) -> None:
    with pytest.raises(CrackError, match="is empty, perhaps by a variable that is not set"):
        parse_settings([flag], {})


def test_a_value_of_another_type_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CrackError, match=r"variable CRACK_SERVE_PORT is no int: .*'http'"):
        parse_settings([], {"CRACK_SERVE_PORT": "http"})
    with pytest.raises(SystemExit) as ended:
        parse_settings(["--port", "http"], {})
    assert ended.value.code == 2
    assert "--port: invalid int value: 'http'" in capsys.readouterr().err


def test_help_does_not_print_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--help"], {"CRACK_SERVE_API_KEY": "hush"})
    shown = capsys.readouterr().out
    assert "--max-pixels" in shown
    assert "hush" not in shown
