from types import SimpleNamespace

import pytest

from avssl.config import ClustersConfig
from avssl.core.errors import UserError
from avssl.explore.check_options import check_clusters


def test_a_split_and_names_are_checked_before_any_work(indexed, tmp_path, monkeypatch):
    data = SimpleNamespace(index=indexed[1].removeprefix("data.index="))
    monkeypatch.setattr("avssl.explore.check_options.read_config", lambda _: SimpleNamespace(data=data))
    check_clusters(ClustersConfig(run="run", split="test"))
    with pytest.raises(UserError, match=r"has no split 'nope': it has test, train"):
        check_clusters(ClustersConfig(run="run", split="nope"))
    with pytest.raises(UserError, match="download it from the page"):
        check_clusters(ClustersConfig(run="run", names=str(tmp_path / "none.json")))
