"""``gkd report``: what a study or a run showed, as one page."""
