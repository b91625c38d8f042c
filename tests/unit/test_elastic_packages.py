"""How the role elastic_packages puts its packages together and which keys it trusts."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.load import load

ROLE = Path(__file__).resolve().parents[2] / "roles" / "elastic_packages"


signing_key = load("roles/elastic_packages/files/signing_key.py")
packing = load("roles/elastic_packages/files/packing.py")
repository = load("roles/elastic_packages/files/repository.py")
stage_elasticsearch = load("roles/elastic_packages/files/stage_elasticsearch.py")
stage_filebeat = load("roles/elastic_packages/files/stage_filebeat.py")


@pytest.fixture(autouse=True)
def no_agents_left(tmp_path: Path) -> Iterator[None]:
    """End the agents that gpg starts in the background for each of a test's keyrings."""
    yield
    for keys in tmp_path.rglob("private-keys-v1.d"):
        subprocess.run(["gpgconf", "--homedir", keys.parent, "--kill", "gpg-agent"], check=True)


def test_versions_agree() -> None:
    """The versions that hosts ask for are the ones that are built."""
    wanted = yaml.safe_load((ROLE / "vars" / "main.yml").read_text("utf-8"))["__elastic_packages_assembled"]
    assert (
        wanted["elasticsearch"] == packing.RECIPES["elasticsearch"].version == stage_elasticsearch.DISTRIBUTION.version
    )
    assert wanted["filebeat"] == packing.RECIPES["filebeat"].version == stage_filebeat.VERSION
    assert f"{stage_filebeat.MODULE} v{stage_filebeat.VERSION}\n" in (ROLE / "files/filebeat/go.mod").read_text("utf-8")


@pytest.mark.parametrize(
    ("member", "mode"),
    [
        ("bin/elasticsearch", 0o755),
        ("bin/x-pack/users", 0o755),
        ("bin/elasticsearch-sql-cli-6.8.23.jar", 0o644),
        ("lib/jna-5.5.0.jar", 0o644),
        ("modules/x-pack-ml/platform/linux-x86_64/bin/controller", 0o755),
        ("modules/x-pack-ml/platform/darwin-x86_64/bin/controller", None),
        ("modules/x-pack-ml/platform/windows-x86_64/bin/controller.exe", None),
        ("bin/elasticsearch.bat", None),
        ("bin/elasticsearch-service-x64.exe", None),
    ],
)
def test_members_of_the_archive_find_their_place(member: str, mode: int | None) -> None:
    """Programs can be run, configuration is private, other systems' files are left out."""
    assert stage_elasticsearch.place(member) == (mode and (f"/usr/share/elasticsearch/{member}", mode))
    assert stage_elasticsearch.place("config/jvm.options") == ("/etc/elasticsearch/jvm.options", 0o640)


def test_paths_are_changed_or_the_build_stops() -> None:
    """A text that is not there means another archive than the one the changes were made for."""
    before = b"#path.data: /path/to/data\n#path.logs: /path/to/logs\n"
    distribution = stage_elasticsearch.DISTRIBUTION
    assert stage_elasticsearch.changed(distribution, "config/elasticsearch.yml", before) == (
        b"path.data: /var/lib/elasticsearch\npath.logs: /var/log/elasticsearch\n"
    )
    with pytest.raises(stage_elasticsearch.BuildError, match="instead of once"):
        stage_elasticsearch.changed(distribution, "config/elasticsearch.yml", b"#path.data: /path/to/data\n")
    assert stage_elasticsearch.changed(distribution, "lib/some.jar", b"\xff\x00") == b"\xff\x00"


def test_another_archive_is_refused(tmp_path: Path) -> None:
    """The checksum is compared before anything is unpacked."""
    archive = tmp_path / "elasticsearch.zip"
    archive.write_bytes(b"something else")
    with pytest.raises(stage_elasticsearch.BuildError, match="not what its publisher published"):
        stage_elasticsearch.check(stage_elasticsearch.DISTRIBUTION, archive)


def test_only_what_runs_is_taken_of_the_modules(tmp_path: Path) -> None:
    """Definitions, configuration and pipelines; no tests, dashboards or sources."""
    wanted = {
        "nginx/module.yml",
        "nginx/access/manifest.yml",
        "nginx/access/config/nginx-access.yml",
        "nginx/access/ingest/pipeline.yml",
    }
    other = {
        "nginx/fields.go",
        "nginx/_meta/kibana/7/dashboard/one.json",
        "nginx/_meta/config.yml",
        "nginx/access/test/access.log",
        "nginx/access/_meta/fields.yml",
    }
    for name in wanted | other:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {str(path) for path in stage_filebeat.runtime_files(tmp_path)} == wanted


def test_go_builds_without_cgo_and_with_the_installed_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's environment may name caches, but not another kind of build."""
    monkeypatch.setenv("CGO_ENABLED", "1")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("GOMODCACHE", "/elsewhere")
    monkeypatch.delenv("GOCACHE", raising=False)
    environment = stage_filebeat.go_environment(tmp_path)
    assert environment["CGO_ENABLED"] == "0"
    assert environment["GOTOOLCHAIN"] == "local"
    assert "-mod=readonly" in environment["GOFLAGS"]
    assert environment["GOMODCACHE"] == "/elsewhere"
    assert environment["GOCACHE"] == str(tmp_path / "objects")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the build of Filebeat's package lay out two small files, and return the cache."""
    here = tmp_path / "files"
    shutil.copytree(ROLE / "files", here)
    (here / "stage_filebeat.py").write_text(
        "import sys\nfrom pathlib import Path\ntree = Path(sys.argv[1])\n"
        "for name in ('etc/filebeat/filebeat.yml', 'usr/share/doc/filebeat/copyright'):\n"
        "    (tree / name).parent.mkdir(parents=True)\n    (tree / name).write_text('x')\n",
        "utf-8",
    )
    monkeypatch.setattr(repository, "HERE", here)
    return tmp_path / "cache"


def filebeat(cache: Path) -> Any:
    """Return Filebeat's package as it is built here."""
    return repository.packages(cache, ["filebeat"], None)["filebeat"]


def test_repository_is_built_once_and_checked(small: Path) -> None:
    """Built, found intact, not built again; an index or a package that was changed afterwards is refused."""
    assert repository.status(small, ["filebeat"])["missing"] == ["filebeat"]
    repository.build(small, filebeat(small))
    folder = filebeat(small).folder
    assert sorted(path.name for path in folder.iterdir()) == ["InRelease", "Packages", "filebeat_7.10.2_amd64.deb"]
    assert not list(small.glob(".build-*"))
    assert (small / "gnupg").stat().st_mode & 0o777 == 0o700
    first = (folder / "InRelease").read_bytes()
    repository.build(small, filebeat(small))
    assert (folder / "InRelease").read_bytes() == first
    assert repository.status(small, ["filebeat"])["missing"] == []

    package = folder / "filebeat_7.10.2_amd64.deb"
    listing = subprocess.run(["dpkg-deb", "--info", package, "conffiles"], check=True, capture_output=True, text=True)
    assert listing.stdout == "/etc/filebeat/filebeat.yml\n"

    index = folder / "Packages"
    text = index.read_text("utf-8")
    index.write_text(text.replace("Section: utils", "Section: admin"), "utf-8")
    with pytest.raises(repository.RepositoryError, match="is not the one that was signed"):
        repository.status(small, ["filebeat"])
    index.write_text(text, "utf-8")
    package.write_bytes(package.read_bytes() + b"x")
    with pytest.raises(repository.RepositoryError, match="is not the one that was built; remove"):
        repository.status(small, ["filebeat"])


def test_equal_files_give_an_equal_package(small: Path, tmp_path: Path) -> None:
    """The package depends on neither time nor place of the build."""
    repository.build(small, filebeat(small))
    repository.build(tmp_path / "other", filebeat(tmp_path / "other"))
    both = [filebeat(cache).folder / filebeat(cache).deb for cache in (small, tmp_path / "other")]
    assert both[0].read_bytes() == both[1].read_bytes()


def test_failed_build_leaves_nothing(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a half-made repository nor its parts."""
    (repository.HERE / "stage_filebeat.py").write_text("raise SystemExit('no network')\n", "utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        repository.build(small, filebeat(small))
    assert sorted(path.name for path in small.iterdir()) == ["gnupg", "key.asc", "lock"]


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the Debian packages that have them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    status = json.loads(json.dumps(repository.status(tmp_path, ["elasticsearch", "filebeat"])))
    assert status["lacking"] == ["dpkg", "gnupg", "golang-go", "maven"]


VERSIONS = {"elasticsearch": "8.19.3", "filebeat": "8.19.3", "kibana": "8.19.3"}


def bring(folder: Path, name: str, version: str, architecture: str = "amd64", file: str = "") -> Path:
    """Put a package into a folder as if it was downloaded, and return its file."""
    tree = folder / "tree" / "DEBIAN"
    tree.mkdir(parents=True, exist_ok=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: x\nDescription: x\n"
    (tree / "control").write_text(control, encoding="utf-8")
    path = folder / (file or f"{name}-{version}-{architecture}.deb")
    subprocess.run(["dpkg-deb", "--build", tree.parent, path], check=True, capture_output=True)
    shutil.rmtree(folder / "tree")
    return path


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Return a folder with the three packages of Elastic's."""
    folder = tmp_path / "downloads"
    for name, version in VERSIONS.items():
        bring(folder, name, version)
    return folder


def test_packages_that_were_brought_become_repositories(tmp_path: Path, downloads: Path) -> None:
    """With what they are called there; another file in a package's place is another repository."""
    cache = tmp_path / "cache"
    names = list(VERSIONS)
    found = repository.status(cache, names, downloads)
    assert found["versions"] == VERSIONS
    assert found["missing"] == names
    for package in repository.packages(cache, names, downloads).values():
        repository.build(cache, package)
        assert sorted(path.name for path in package.folder.iterdir()) == ["InRelease", "Packages", package.deb]
    assert repository.status(cache, names, downloads)["missing"] == []
    (downloads / "elasticsearch-8.19.3-amd64.deb").unlink()
    bring(downloads, "elasticsearch", "8.19.3", file="elasticsearch-again.deb")
    assert repository.status(cache, names, downloads)["missing"] == ["elasticsearch"]


def test_kibana_need_not_be_brought_and_our_own_pair_fits(tmp_path: Path) -> None:
    """As it lies in the cache of somebody who has built it."""
    folder = tmp_path / "downloads"
    bring(folder, "elasticsearch", "6.8.23", file="elasticsearch_6.8.23_amd64.deb")
    bring(folder, "filebeat", "7.10.2", file="filebeat_7.10.2_amd64.deb")
    bring(folder, "hello", "1")
    found = repository.status(tmp_path / "cache", list(VERSIONS), folder)
    assert found["versions"] == {"elasticsearch": "6.8.23", "filebeat": "7.10.2", "kibana": ""}


def test_what_was_brought_and_does_not_do_is_refused_by_its_file(tmp_path: Path, downloads: Path) -> None:
    """One thing at a time, and what would be right."""

    def refusal() -> str:
        with pytest.raises(repository.RepositoryError) as caught:
            repository.status(tmp_path / "cache", list(VERSIONS), downloads)
        return str(caught.value)

    twice = bring(downloads, "filebeat", "8.19.4")
    assert refusal() == (
        f"{downloads}/filebeat-8.19.3-amd64.deb and {twice} are both filebeat; leave one of them in {downloads}"
    )
    (downloads / "filebeat-8.19.3-amd64.deb").unlink()
    has = f"{downloads} has elasticsearch 8.19.3 and filebeat 8.19.4 and kibana 8.19.3"
    assert refusal() == f"{has}; all of them must be of one version"
    twice.unlink()
    assert f"{downloads} has no package filebeat; Elastic calls it filebeat-" in refusal()
    foreign = bring(downloads, "filebeat", "8.19.3", "arm64")
    assert refusal() == f"{foreign} is for arm64; the hosts need the package for amd64"
    foreign.write_bytes(b"<html>log in</html>")
    assert refusal().startswith(f"{foreign} is no package: ")
    shutil.rmtree(downloads)
    assert refusal() == f"{downloads} (elastic_packages_directory) is no folder on the control node"
    for name in VERSIONS:
        bring(downloads, name, "9.2.0")
    assert "the roles know major version 8" in refusal()


def test_what_lies_beside_a_package_is_checked(tmp_path: Path, downloads: Path) -> None:
    """The checksum, the signature, and whose key it is; nothing is built of what does not match."""
    cache = tmp_path / "cache"
    package = repository.packages(cache, ["filebeat"], downloads)["filebeat"]
    total, signature, key = (
        downloads / f"{package.brought.name}.sha512",
        downloads / f"{package.brought.name}.asc",
        downloads / "GPG-KEY-elasticsearch",
    )

    def refusal(fingerprint: str) -> str:
        with pytest.raises(repository.RepositoryError) as caught:
            repository.build(cache, package, fingerprint)
        assert not package.folder.exists()
        return str(caught.value)

    total.write_text(f"{'0' * 128}  {package.brought.name}\n", encoding="utf-8")
    assert "is not the file that filebeat-8.19.3-amd64.deb.sha512 was made for" in refusal("")
    digest = hashlib.sha512(package.brought.read_bytes()).hexdigest()
    total.write_text(f"{digest}  {package.brought.name}\n", encoding="utf-8")

    signer = repository.Signer(tmp_path / "elastic")
    (tmp_path / "elastic").mkdir()
    signer.ensure()
    (mine,) = signing_key.fingerprints(signer.public)
    repository.gpg(signer.home, "--armor", "--output", signature, "--detach-sign", package.brought)
    assert "needs Elastic's key beside it, as GPG-KEY-elasticsearch" in refusal(mine)
    shutil.copy(signer.public, key)
    assert "instead of 00000000" in refusal("0" * 40)
    good = package.brought.read_bytes()
    package.brought.write_bytes(good + b"x")
    total.unlink()
    assert "is not the file that filebeat-8.19.3-amd64.deb.asc was made for" in refusal(mine)
    package.brought.write_bytes(good)
    repository.build(cache, package, mine)
    assert package.folder.is_dir()


def test_only_the_published_key_is_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another fingerprint, a file with two keys, and something that is no key are refused."""
    files = []
    for name in ("one", "two"):
        signer = repository.Signer(tmp_path / name)
        (tmp_path / name).mkdir()
        signer.ensure()
        files.append(signer.public)
    (mine,) = signing_key.fingerprints(files[0])
    spaced = " ".join(mine[start : start + 4] for start in range(0, 40, 4)).lower()
    signing_key.check(files[0], spaced, "https://example.com/key")
    for content in (files[1].read_bytes(), files[0].read_bytes() + files[1].read_bytes(), b"<html>log in</html>"):
        key = tmp_path / "key"
        key.write_bytes(content)
        with pytest.raises(signing_key.WrongKeyError, match=r"https://example\.com/key gave "):
            signing_key.check(key, mine, "https://example.com/key")
