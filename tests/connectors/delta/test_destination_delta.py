from lake_suite import LakeConformance, LakeStateConformance


class TestDelta(LakeConformance):
    plugin = "delta"


class TestDeltaState(LakeStateConformance):
    plugin = "delta"
    log = "_strandline/log"
