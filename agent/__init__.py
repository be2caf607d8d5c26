"""The in-store agent: reads cameras, detects what stands on the shelves, reports inventory events."""
