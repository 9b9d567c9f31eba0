"""The wheel holds the folders beside the code, and the toolkit runs from it outside a checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    assert f"COPY dist/{wheel.name.split('-')[0]}-*.whl" in (ROOT / "Dockerfile").read_text()
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "configs/train.yaml", "configs/experiment/sample.yaml", "data/folder.yaml", "slurm/train.sbatch",
        "slurm/one_machine.sh",
    ):  # fmt: skip
        assert f"avssl/assets/{name}" in names
    assert {"avssl/explore/page/index.html", "avssl/explore/page/app.js", "avssl/core/page.css"} <= {*names}
    assert not [name for name in names if "benchmarks" in name or "experiments" in name or "claims" in name]
    # An environment of its own for the package alone; its dependencies are those that are installed here already.
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    outside = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True, env=outside)
    found = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"],
                           check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip
    here = Path(pytest.__file__).parents[1]
    (Path(found) / "dependencies.pth").write_text(f"{here}\n")
    avssl = tmp_path / "env" / "bin" / "avssl"
    assert subprocess.run([avssl, "train", "experiment=sampel"], cwd=tmp_path, env=outside).returncode == 2
    # one process for all the commands: what imports torch takes seconds
    commands = [
        "train --help",
        "sample out=s classes=2 train=2 test=2 workers=1",
        "index data.root=s",
        "train data.root=s experiment=selavi_small labelling.clusters=2 optim.epochs=1 workers=0",
        "clusters run=runs/s_selavi_seed0 workers=0",
    ]
    code = f"""
import sys, avssl
from avssl.cli import main
assert avssl.__file__.startswith(sys.prefix), avssl.__file__
for command in {commands}:
    assert main(command.split()) == 0, command
"""
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "experiment=" in done.stdout
    assert (tmp_path / "runs/s_selavi_seed0/clusters/explorer/index.html").exists()
