"""Music over HTTP, and the studio: a page to make it in. What there is to ask for is one table, `verbs.py`."""
