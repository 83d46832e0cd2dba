"""Report of a run: one page for the browser that works offline."""
