"""Excel workbooks of the Upstream domain."""
