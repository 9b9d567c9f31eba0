import pytest

from avssl.explore.names_command import names_command


@pytest.mark.parametrize(
    ("run", "out", "command"),
    [
        ("runs/dogs_both_seed0", "runs/dogs_both_seed0/clusters", "avssl clusters dogs_both_seed0 names=names.json"),
        ("./runs/a", "runs/a/clusters", "avssl clusters a names=names.json"),
        ("runs/my dogs_seed0", "runs/my dogs_seed0/clusters", "avssl clusters 'my dogs_seed0' names=names.json"),
        ("/data/a$b", "/data/a$b/clusters", "avssl clusters 'run=/data/a$b' names=names.json"),
        ("runs/deep/a", "runs/deep/a/clusters", "avssl clusters run=runs/deep/a names=names.json"),
        ("runs/a=b", "runs/a=b/clusters", "avssl clusters run=runs/a=b names=names.json"),
        ("runs/a", "elsewhere", "avssl clusters a out=elsewhere names=names.json"),
    ],
)
def test_the_command_names_the_run_as_the_shell_takes_it(run, out, command):
    assert names_command(run, out) == command
