"""A site whose exports are made in the background: its settings, for processes of their own, and its views."""
