"""The presets without a publication, and what ``kd.predict: ema`` asks for."""

from __future__ import annotations

from gkd_plugin.config.resolve import resolve


def test_cohort_st_and_its_control_differ_in_who_teaches_only() -> None:
    together, alone = (resolve({"kd": {"preset": name}}) for name in ("cohort_st", "self_st"))
    ours, own = together.groups["response"].values, alone.groups["response"].values
    assert (ours["source"], own["source"]) == ("cohort", "self")
    assert {**ours, "source": None} == {**own, "source": None}
    assert ours["sharpen"] == 0.5 and ours["nodes"] == "unlabeled" and ours["schedule"] == "rampup_80"
    assert (together.students, alone.students) == (2, 1)


def test_predict_ema_needs_no_term_that_listens() -> None:
    plan = resolve({"kd": {"predict": "ema", "ema_decay": 0.9}})
    assert plan["ema_decay"] == 0.9 and not plan.active
