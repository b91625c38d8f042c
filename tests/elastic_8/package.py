#!/usr/bin/env python3
"""Make packages of Elasticsearch 8 and of a Filebeat that speaks to it, for the test, in the folder that is given.

Maven Central has of version 8 only the distribution that its publisher tests clients with: server, security and TLS,
without Java and without most modules. Filebeat is the last version that can be had as a Go module, of major version 7.
Both are packed by what packs the versions that role elastic_packages has.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles" / "elastic_packages" / "files"))

import stage_elasticsearch as elasticsearch
import stage_filebeat as filebeat
from packing import Recipe, pack

DISTRIBUTION = elasticsearch.Distribution(
    "org.elasticsearch.distribution.integ-test-zip:elasticsearch:8.19.21:zip",
    "215d5f3dbf0609a149f6218a9e47b6ae2df34ebbff3c5754e35f15a5e5393c8a",
    {
        "bin/elasticsearch-env": (("ES_DISTRIBUTION_TYPE=zip", "ES_DISTRIBUTION_TYPE=deb"),),
        "config/elasticsearch.yml": elasticsearch.DISTRIBUTION.changes["config/elasticsearch.yml"],
        "config/jvm.options": (
            ("-XX:ErrorFile=hs_err", "-XX:ErrorFile=/var/log/elasticsearch/hs_err"),
            (":file=gc.log:", ":file=/var/log/elasticsearch/gc.log:"),
        ),
    },
)
FILEBEAT = "7.17.29"
GO_SUM = f"""\
{filebeat.MODULE} v{FILEBEAT} h1:xZD9AOJSheSUy96zjPo3K1UlwM2ROihnosUfTctGmv8=
{filebeat.MODULE} v{FILEBEAT}/go.mod h1:/XyHz2xF8aRiFcb+G3NTvbh3TR2Vka3Ts+/wgYScIic=
"""

# Their times: of the build, by the manifest of a jar, and of the tag.
RECIPES = {
    "elasticsearch": Recipe(DISTRIBUTION.version, 1787782247, {}),
    "filebeat": Recipe(FILEBEAT, 1750263219, {}),
}


def stage_elasticsearch(work: Path, tree: Path) -> None:
    """Lay out the files of Elasticsearch's package."""
    archive = elasticsearch.fetch(DISTRIBUTION, work)
    elasticsearch.check(DISTRIBUTION, archive)
    elasticsearch.stage(DISTRIBUTION, archive, tree)
    (tree / "etc/elasticsearch/jvm.options.d").mkdir()


def stage_filebeat(work: Path, tree: Path) -> None:
    """Build Filebeat within its own module, whose go.sum pins all others, and lay out the files of its package."""
    (work / "go.mod").write_text("module fetch\n", "utf-8")
    (work / "go.sum").write_text(GO_SUM, "utf-8")
    environment = filebeat.go_environment(work)
    download = ["go", "mod", "download", "-json", f"{filebeat.MODULE}@v{FILEBEAT}"]
    answer = subprocess.run(download, cwd=work, env=environment, check=True, stdout=subprocess.PIPE)
    source = work / "source"
    shutil.copytree(json.loads(answer.stdout)["Dir"], source)
    program = work / "filebeat"
    build = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), "./filebeat"]
    subprocess.run(build, cwd=source, env=environment, check=True)
    filebeat.stage(program, source, tree)


STAGES = {"elasticsearch": stage_elasticsearch, "filebeat": stage_filebeat}


def main() -> None:
    """Run the program."""
    os.umask(0o022)
    folder, name = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work, tree, made = (Path(temporary) / part for part in ("work", "tree", "made.deb"))
        for part in (work, tree):
            part.mkdir()
        STAGES[name](work, tree)
        pack(RECIPES[name], tree, elasticsearch.SOURCE.parent / name, made)
        made.rename(folder / f"{name}.deb")


if __name__ == "__main__":
    main()
