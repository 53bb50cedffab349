from lake_suite import LakeConformance, LakeStateConformance


class TestIceberg(LakeConformance):
    plugin = "iceberg"


class TestIcebergState(LakeStateConformance):
    plugin = "iceberg"
    log = "default/_strandline/log"
