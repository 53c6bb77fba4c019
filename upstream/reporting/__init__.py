"""CSV and PDF reports of the Upstream domain, and what they are made of: facts, words, charts, pages."""
