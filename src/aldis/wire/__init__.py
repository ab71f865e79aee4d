"""The customers' formats: legacy text, MSISDNs, push parameters."""
