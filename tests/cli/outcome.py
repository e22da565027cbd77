"""What a failed command must look like."""

from typer.testing import Result


def assert_one_sentence(result: Result, exit_code: int = 1) -> str:
    """The command failed with one line on stderr and nothing on stdout; return the line."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in result.stderr
    return lines[0]
