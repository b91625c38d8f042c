"""The generator of the roles' variable tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import role_readme

SPECS = """\
argument_specs:
  main:
    options:
      web_port: {type: int, default: 443, description: Port to listen on.}
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
          name: {type: str, required: true, description: The name.}
  other:
    options:
      web_a: {default: ""}
"""
TABLE = r"""
| Variable | Type | Default | Description |
| --- | --- | --- | --- |
| `web_port` | int | `443` | Port to listen on. |
| `web_mode` | str | required | Whether a \| b. Second paragraph. One of `on`, `off`. |
| `web_names` | list of dict | `[]` | Names. |
| `web_names[].name` | str | required | The name. |
| `web_a` | str | `""` |  |
"""
README = "# web\n\nText.\n\n<!-- variables -->{}<!-- /variables -->\n\n## Limits\n"


def rendered(role: Path, readme: str, specs: str) -> str:
    """Write a role and return what its README should be."""
    (role / "meta").mkdir(exist_ok=True)
    (role / "meta" / "argument_specs.yml").write_text(specs, encoding="utf-8")
    (role / "README.md").write_text(readme, encoding="utf-8")
    current, wanted = role_readme.render(role)
    assert current == readme
    return wanted


def test_table_holds_every_option_and_nothing_else_changes(tmp_path: Path) -> None:
    """Of all entry points; a second time nothing changes; without options a sentence says so."""
    wanted = README.format(f"\n{TABLE}\n")
    assert rendered(tmp_path, README.format("\n"), SPECS) == wanted
    assert rendered(tmp_path, wanted, SPECS) == wanted
    nothing = README.format("\n\nThis role has no variables.\n\n")
    assert rendered(tmp_path, wanted, "argument_specs: {main: {short_description: x}}") == nothing


@pytest.mark.parametrize("readme", ["# web\n", "<!-- /variables --> <!-- variables -->", "<!-- variables -->"])
def test_a_readme_without_a_place_is_named(tmp_path: Path, readme: str) -> None:
    """By its role, with what it needs."""
    with pytest.raises(role_readme.ReadmeError, match=f"{tmp_path.name}: README.md needs <!-- variables --> and"):
        rendered(tmp_path, readme, SPECS)


def test_outdated_readmes_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And only those."""
    (tmp_path / "web").mkdir()
    wanted = rendered(tmp_path / "web", README.format(""), SPECS)
    monkeypatch.setattr(role_readme, "ROLES", tmp_path)
    for printed in ("web: README.md written\n", ""):
        role_readme.main()
        assert capsys.readouterr().out == printed
        assert (tmp_path / "web" / "README.md").read_text(encoding="utf-8") == wanted
