"""The same faults against Strandline and against dlt, so that the hole table can be run again by anybody."""
