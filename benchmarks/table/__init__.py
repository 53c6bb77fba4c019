"""The table that is exported: twelve columns, one of them joined."""
