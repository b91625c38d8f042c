"""The module and action of ``sre.stack.deploy``: files all or none, and units that run on what is on disk."""

from __future__ import annotations

import getpass
import grp
import os
import socket
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.load import load

deploy = load("plugins/modules/deploy.py")

ME = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


class Module:
    """As much of Ansible's module as the code uses, on this machine's files, with a systemd of its own."""

    def __init__(self, tmpdir: Path, *, check_mode: bool = False) -> None:
        """Begin with no unit."""
        self.check_mode = check_mode
        self.tmpdir = str(tmpdir)
        self.shown: dict[str, str] = {}
        self.ran: list[list[str]] = []
        self.refused = ""

    def atomic_move(self, source: str, target: str) -> None:
        """Rename a file."""
        Path(source).rename(target)

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        """Answer for systemctl; a check refuses what holds the word that is refused."""
        self.ran.append(command)
        if command[:2] == ["systemctl", "show"]:
            return 0, "".join(f"{name}={value}\n" for name, value in self.shown.items()), ""
        if command[0] == "check":
            bad = bool(self.refused) and self.refused in Path(command[1]).read_text("utf-8")
            return int(bad), "", f"{command[1]}: bad" if bad else ""
        return 0, "", ""


@pytest.fixture
def module(tmp_path: Path) -> Module:
    """Return a module with a folder for its temporary files."""
    (tmp_path / "tmp").mkdir()
    return Module(tmp_path / "tmp")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the folder of the host's files."""
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def entry(path: Path, text: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a file as the host gets it."""
    return {"path": str(path), **ME, **({} if text is None else {"data": text.encode()}), **more}


def run(module: Module, *entries: dict[str, Any]) -> Any:
    """Put files in place and return the one who did it."""
    files = deploy.Files(module, [dict(one) for one in entries])
    files.run()
    return files


def mode(path: Path) -> str:
    """Return a file's mode in octal."""
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_a_second_run_changes_nothing(module: Module, place: Path) -> None:
    """A file of each kind is made, with its mode whatever the umask, and found as it should be afterwards."""
    old = os.umask(0o077)
    try:
        wanted = [
            entry(place / "new" / "deep" / "a.conf", "a\n"),
            entry(place / "secret", "s\n", mode="0640", secret=True),
            entry(place / "folder", state="directory", mode="0750"),
            entry(place / "log", state="touch", mode="0600"),
            entry(place / "link", link_to="log"),
            entry(place / "gone", state="absent"),
        ]
        (place / "gone").touch()
        first = run(module, *wanted)
    finally:
        os.umask(old)
    assert (place / "new/deep/a.conf").read_text("utf-8") == "a\n"
    modes = [mode(place / name) for name in ("new", "new/deep/a.conf", "secret", "folder", "log")]
    assert modes == ["0755", "0644", "0640", "0750", "0600"]
    assert (place / "link").readlink() == Path("log")
    assert not (place / "gone").exists()
    assert len(first.actions) == 6
    assert "s\n" not in str(first.diff)
    assert run(module, *wanted).actions == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("other\n", "utf-8"),
        lambda path: path.unlink(),
        lambda path: path.chmod(0o600),
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
    ],
    ids=["changed", "removed", "another mode", "a link"],
)
def test_what_somebody_changed_is_seen_and_mended(module: Module, place: Path, spoil: Any) -> None:
    """Not by skipping is a run quick."""
    wanted = entry(place / "a.conf", "a\n")
    run(module, wanted)
    spoil(place / "a.conf")
    assert len(run(module, wanted).actions) == 1
    assert (place / "a.conf").read_text("utf-8") == "a\n"
    assert mode(place / "a.conf") == "0644"
    assert run(module, wanted).actions == []


def test_a_refused_file_leaves_all_as_it_was(module: Module, place: Path) -> None:
    """The check sees the whole of what would be there; what it refuses is refused by the next run as well."""
    part, whole = place / "part.conf", place / "whole.conf"
    good = [entry(part, "part\n"), entry(whole, "whole\n", validate="check %s")]
    run(module, *good)
    os.utime(part, (1, 1))
    before = part.stat()
    module.refused = "wrong"
    bad = [entry(place / "new.conf", "n\n"), entry(part, "other\n"), entry(whole, "wrong\n", validate="check %s")]
    for _ in range(2):
        with pytest.raises(deploy.DeployError, match=r"whole.conf is refused by `check %s` \(exit 1\)"):
            run(module, *bad)
        assert (part.read_text("utf-8"), whole.read_text("utf-8")) == ("part\n", "whole\n")
        assert not (place / "new.conf").exists()
        # No newer than what was loaded of it.
        assert part.stat().st_mtime == before.st_mtime


def test_a_check_runs_when_another_file_changes(module: Module, place: Path) -> None:
    """The file that is checked includes others, which may be what is wrong."""
    part, whole = place / "part.conf", place / "whole.conf"
    run(module, entry(part, "part\n"), entry(whole, "whole\n", validate="check %s"))
    module.ran.clear()
    run(module, entry(part, "part\n"), entry(whole, "whole\n", validate="check %s"))
    assert module.ran == []
    run(module, entry(part, "other\n"), entry(whole, "whole\n", validate="check %s"))
    assert [command[0] for command in module.ran] == ["check"]


def test_check_mode_changes_nothing(module: Module, place: Path) -> None:
    """It says the same, also on a host without the package that brings the file's group."""
    module.check_mode = True
    files = run(module, entry(place / "new" / "a.conf", "a\n", group="of-no-package-yet"))
    assert files.actions == [f"write {place}/new/a.conf"]
    assert files.diff[0]["after"] == "a\n"
    assert not (place / "new").exists()


def test_a_missing_file_of_somebody_elses_is_named(module: Module, place: Path) -> None:
    """A certificate, for instance."""
    with pytest.raises(deploy.DeployError, match=r"host\.crt is missing on the host"):
        run(module, entry(place / "host.crt"))


def shown(started: float, reloaded: float | None = None, **more: str) -> dict[str, str]:
    """Return a running unit as systemd shows it."""

    def text(moment: float) -> str:
        return datetime.fromtimestamp(moment, UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")

    return {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "ReloadResult": "success",
        "ExecMainStartTimestamp": text(started),
        "ActiveEnterTimestamp": text(started + 1),
        "StateChangeTimestamp": text(started + 1 if reloaded is None else reloaded),
        **more,
    }


# Any moment in the past.
NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("unit", "written", "actions"),
    [
        (shown(NOW - 100), NOW - 200, []),
        # A run was cut off between the file and the unit: the next one finds it.
        (shown(NOW - 100), NOW - 50, ["reload"]),
        # While the unit was starting it may have read the old one.
        (shown(NOW - 100), NOW - 99.5, ["reload"]),
        (shown(NOW - 100, NOW - 40), NOW - 50, []),
        # A reload that the unit refused has loaded nothing.
        (shown(NOW - 100, NOW - 40, ReloadResult="exit-code"), NOW - 50, ["reload"]),
        (shown(NOW - 100, ActiveState="failed"), NOW - 50, ["start"]),
        (shown(NOW - 100, UnitFileState="disabled"), NOW - 200, ["enable"]),
        # A timer has no process.
        (shown(NOW - 100, ExecMainStartTimestamp=""), NOW - 50, ["reload"]),
    ],
)
def test_a_unit_runs_on_what_is_on_disk(
    module: Module, place: Path, unit: dict[str, str], written: float, actions: list[str]
) -> None:
    """Times are compared on every run, whoever wrote the file."""
    (place / "a.conf").touch()
    os.utime(place / "a.conf", (written, written))
    module.shown = unit
    done = deploy.Unit(module, "a.service").run([entry(place / "a.conf", reload="a.service")], set())
    assert done == [f"{action} a.service" for action in actions]
    asked = [command[1] for command in module.ran if command[1] != "show"]
    assert asked == (["daemon-reload"] if "start" in actions else []) + actions


def test_a_restart_makes_a_reload_superfluous(module: Module, place: Path) -> None:
    """One of both, and of other units' files nothing."""
    for name in ("a.conf", "unit.conf", "other.conf"):
        (place / name).touch()
    module.shown = shown(NOW - 100)
    entries = [entry(place / "a.conf", reload="a.service"), entry(place / "unit.conf", restart="a.service")]
    assert deploy.Unit(module, "a.service").run(entries, set()) == ["restart a.service"]
    assert deploy.Unit(module, "b.service").run(entries, set()) == []


@pytest.mark.parametrize(("stale", "changed"), [("no", False), ("yes", False), ("no", True)])
def test_systemd_reads_changed_files_of_units(
    module: Module, place: Path, monkeypatch: pytest.MonkeyPatch, stale: str, *, changed: bool
) -> None:
    """Also those of a service that only its timer starts, and those that a run which was cut off has written."""
    monkeypatch.setattr(deploy, "UNITS", str(place))
    (place / "a.timer.d").mkdir()
    (place / "a.timer.d/50-site.conf").touch()
    module.shown = shown(time.time() + 1, NeedDaemonReload=stale)
    entries = [entry(place / name) for name in ("a.service", "a.timer.d/50-site.conf", "b@.service")]
    assert deploy.Unit(module, "a.timer").run(entries, {f"{place}/a.service"} if changed else set()) == []
    asked = ["systemctl", "show", "--property=NeedDaemonReload", "a.service", "a.timer"]
    assert (asked in module.ran) is not changed
    assert (["systemctl", "daemon-reload"] in module.ran) is (changed or stale == "yes")


def test_a_removed_file_counts_from_its_folder(module: Module, place: Path) -> None:
    """An example that was disabled just before the run was cut off is not served on."""
    module.shown = shown(NOW - 100)
    gone = entry(place / "default", state="absent", reload="a.service")
    assert deploy.Unit(module, "a.service").run([gone], set()) == ["reload a.service"]


def test_a_unit_that_does_not_start_is_explained(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own last words say more than that a job failed."""
    answers = {
        "systemctl": (1, "", "Job for a.service failed."),
        "journalctl": (0, "bind() to 0.0.0.0:80 failed (98: Address already in use)\n", ""),
    }
    monkeypatch.setattr(module, "run_command", lambda command: answers[command[0]])
    with pytest.raises(deploy.DeployError, match=r"Job for a.service failed. a.service said: bind\(\) to 0.0.0.0:80"):
        deploy.Unit(module, "a.service")


def test_a_taken_port_is_named_with_who_has_it(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the unit is touched, unless it or another unit of the task has the port."""
    module.shown = shown(NOW, ActiveState="inactive")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        unit = deploy.Unit(module, "a.service")
        said = rf"^a.service listens on port {port}, which .* \(process {os.getpid()}\) has"
        with pytest.raises(deploy.DeployError, match=said):
            unit.run([], set(), [port])
        assert {command[1] for command in module.ran} == {"show"}
        monkeypatch.setattr(deploy, "process", lambda *_: "1:cpu:/\n0::/system.slice/a.service")
        assert unit.run([], set(), [port]) == ["start a.service"]
        # Where one of the task's units has it already, the next one is not in its way.
        assert deploy.Unit(module, "b.timer").run([], set(), [port], ["a.service", "b.timer"]) == ["start b.timer"]


def test_files_travel_packed() -> None:
    """What is packed comes out again, and its content cannot be read in between."""
    packed = deploy.pack([{"path": "/a", "data": "c2VjcmV0"}, {"path": "/b"}])
    assert "secret" not in packed
    assert "c2VjcmV0" not in packed
    assert deploy.unpack(packed) == [{"path": "/a", "data": b"secret"}, {"path": "/b"}]
