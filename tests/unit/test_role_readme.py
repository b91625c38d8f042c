"""The generator of the roles' variable tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import role_readme

SPECS = """\
---
argument_specs:
  main:
    options:
      web_port:
        type: int
        default: 443
        description: Port to listen on.
      web_mode:
        type: str
        choices: ["on", "off"]
        required: true
        description:
          - Whether a | b.
          - Second paragraph.
      web_names:
        type: list
        elements: dict
        default: []
        description: Names.
        options:
          name:
            type: str
            required: true
            description: The name.
"""
README = "# web\n\nText.\n\n<!-- variables -->\n<!-- /variables -->\n\n## Limits\n"


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    """Return a directory that holds one role, `web`, whose README has no table yet."""
    meta = tmp_path / "web" / "meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(SPECS, encoding="utf-8")
    (tmp_path / "web" / "README.md").write_text(README, encoding="utf-8")
    return tmp_path


def test_table_holds_every_option_with_its_default(roles: Path) -> None:
    """A row says type, default or required, description and choices."""
    assert role_readme.main(["--roles", str(roles)]) == 0
    lines = (roles / "web" / "README.md").read_text(encoding="utf-8").splitlines()
    assert "| `web_port` | int | `443` | Port to listen on. |" in lines
    assert r"| `web_mode` | str | required | Whether a \| b. Second paragraph. One of `on`, `off`. |" in lines
    assert "| `web_names` | list of dict | `[]` | Names. |" in lines
    assert "| `web_names[].name` | str | required | The name. |" in lines


def test_text_outside_the_markers_is_kept(roles: Path) -> None:
    """Only what stands between the markers changes, and a second run changes nothing."""
    role_readme.main(["--roles", str(roles)])
    first = (roles / "web" / "README.md").read_text(encoding="utf-8")
    assert first.startswith("# web\n\nText.\n\n<!-- variables -->\n")
    assert first.endswith("<!-- /variables -->\n\n## Limits\n")
    role_readme.main(["--roles", str(roles)])
    assert (roles / "web" / "README.md").read_text(encoding="utf-8") == first


def test_check_reports_and_writes_nothing(roles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` fails on an outdated README and passes on a fresh one."""
    assert role_readme.main(["--check", "--roles", str(roles)]) == 1
    assert "web: README.md is outdated" in capsys.readouterr().err
    assert (roles / "web" / "README.md").read_text(encoding="utf-8") == README
    role_readme.main(["--roles", str(roles), "web"])
    assert role_readme.main(["--check", "--roles", str(roles)]) == 0


@pytest.mark.parametrize(
    ("readme", "specs", "message"),
    [
        ("# web\n", SPECS, "needs one <!-- variables -->"),
        ("<!-- /variables --> <!-- variables -->", SPECS, "before"),
        (README, "arguments: {}", "argument_specs.yml: KeyError('argument_specs')"),
        (README, "argument_specs: {main: {options: [1]}}", "argument_specs.yml: TypeError"),
        (README, None, "argument_specs.yml is missing"),
        (None, SPECS, "README.md is missing"),
    ],
)
def test_unusable_input_is_named(
    roles: Path,
    capsys: pytest.CaptureFixture[str],
    readme: str | None,
    specs: str | None,
    message: str,
) -> None:
    """Each problem is one line that starts with the role's name."""
    for name, text in (("README.md", readme), ("meta/argument_specs.yml", specs)):
        path = roles / "web" / name
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    assert role_readme.main(["--roles", str(roles)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("web: ")
    assert message in error


def test_options_of_every_entry_point_are_listed(roles: Path) -> None:
    """A role without `main` is documented too."""
    path = roles / "web" / "meta" / "argument_specs.yml"
    path.write_text(
        "argument_specs: {up: {options: {web_a: {}}}, down: {options: {web_b: {}}}}",
        encoding="utf-8",
    )
    role_readme.main(["--roles", str(roles)])
    text = (roles / "web" / "README.md").read_text(encoding="utf-8")
    assert "| `web_a` | str |" in text
    assert "| `web_b` | str |" in text


def test_unknown_role_is_refused(roles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no role is an error of use, not of content."""
    assert role_readme.main(["--roles", str(roles), "nginy"]) == 2
    assert "no such role: nginy" in capsys.readouterr().err


def test_role_without_variables_says_so(roles: Path) -> None:
    """No empty table."""
    path = roles / "web" / "meta" / "argument_specs.yml"
    path.write_text("argument_specs: {main: {short_description: x}}", encoding="utf-8")
    role_readme.main(["--roles", str(roles)])
    text = (roles / "web" / "README.md").read_text(encoding="utf-8")
    assert "This role has no variables." in text
