"""Where a run stands, in what it costs; the rest is tried with `batchrun status`."""

from __future__ import annotations

import msgspec
from commands import called
from stores import keep_all, record, run_file

from batchrun.pricing import Deployment, Price, PriceBook
from batchrun.standing import stand
from batchrun.store.folder import RunFolder

OURS = "accounts/fireworks/models/glm-5p3#accounts/me/deployments/d1"
ALSO_OURS = "accounts/fireworks/models/kimi-k3#accounts/me/deployments/d1"
BOOK = PriceBook(
    date="2026-11-22",
    source="a contract",
    prices={"priced": Price(model="priced", input_usd_per_mtok=1, output_usd_per_mtok=2)},
    deployments=[Deployment(model="*#accounts/me/deployments/*", usd_per_gpu_hour=8, gpus=2)],
)


def folder_of(path, *models: str) -> RunFolder:
    """A closed run of one row that asked for these models."""
    keep_all(path, [record(0)], 1)
    folder = RunFolder(path)
    folder.write_run_file(run_file(1, models=dict.fromkeys(models, 1), prices=msgspec.to_builtins(BOOK)))
    return folder


def test_a_model_without_any_price_is_unpriced(tmp_path):
    """One that has a price is not; and no figure stands for what has none."""
    found = stand(folder_of(tmp_path / "out", "priced", "nobody/knows"))
    assert (found.unpriced_models, found.usd_per_hour) == (["nobody/knows"], None)
    assert "Cost      unpriced: nobody/knows\n" in called("status", tmp_path / "out").out


def test_what_a_deployment_answers_is_paid_by_the_hour(tmp_path):
    """It is not unpriced, and several models on one deployment cost once."""
    found = stand(folder_of(tmp_path / "out", OURS, ALSO_OURS))
    assert (found.unpriced_models, found.usd_per_hour) == ([], 16)
    assert "Cost      $16.00 an hour for deployments\n" in called("status", tmp_path / "out").out
