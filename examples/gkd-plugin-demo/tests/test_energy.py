from gkd_plugin.testing import TermSuite


class TestEnergy(TermSuite):
    term = "energy"
    variants = {"plain": {}, "unit_rows": {"normalize": True, "layer_map": "uniform", "tap": "layer"}}
